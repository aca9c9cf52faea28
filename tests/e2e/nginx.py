"""The real nginx of a test: what every configuration of it needs, in a directory of the test's own."""

import os

FRAME = """
daemon off;
{user}
worker_processes 1;
pid {directory}/nginx.pid;
error_log {directory}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  {http}
}}
"""


def nginx_command(directory, http):
    """Writes the configuration, `http` being what stands in the block of that name; the command that serves by it."""
    # Root's nginx would serve as another user, whom the test's directory lets nothing see; others' may not be told.
    user = "user root root;" if os.geteuid() == 0 else ""
    file = directory / "nginx.conf"
    file.write_text(FRAME.format(user=user, directory=directory, http=http))
    return ["/usr/sbin/nginx", "-p", str(directory), "-c", str(file)]
