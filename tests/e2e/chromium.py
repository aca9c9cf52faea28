"""A headless Chromium for tests of pages: the fixture `browser`, and what is done in a page."""

import os
import shutil

import pytest

from belfry import wait_until

try:
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
except ImportError:
    webdriver = None

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
DRIVER = shutil.which("chromedriver")
SECONDS = 30

# Missing is a failure where all must be there.
needs_chromium = pytest.mark.skipif(
    not (webdriver and CHROMIUM and DRIVER) and not os.environ.get("CI"),
    reason="Chromium, chromedriver or selenium is not installed",
)

FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --disable-dev-shm-usage --no-first-run --no-proxy-server "
    "--disable-background-networking --disable-component-update --disable-sync --disable-extensions "
    # A window in the background must run as if it was looked at.
    "--disable-background-timer-throttling --disable-renderer-backgrounding --disable-backgrounding-occluded-windows "
    "--ignore-certificate-errors"
).split()


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('chromium')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(service=Service(DRIVER), options=options)
    started.set_script_timeout(SECONDS)
    started.set_page_load_timeout(SECONDS)
    yield started
    started.quit()


def leave_pages(browser, url="about:blank"):
    """A new window with that page is left, and no connection: a browser keeps some for later requests, and opens some that it
    never uses."""
    browser.switch_to.new_window("window")
    kept = browser.current_window_handle
    for handle in browser.window_handles:
        if handle != kept:
            browser.switch_to.window(handle)
            browser.close()
    browser.switch_to.window(kept)
    browser.get(url)
    browser.delete_all_cookies()  # of this page's host, whatever the port: the next test logs in anew
    browser.get("chrome://net-internals/#sockets")
    browser.find_element("id", "sockets-view-flush-button").click()


def page_url(server, scheme, path):
    """Of a page, or of a WebSocket: everything is on one port."""
    host, port = server.address("secure" if scheme in ("https", "wss") else "public")
    return f"{scheme}://{host}:{port}{path}"


def in_page(browser, script, *arguments):
    """Runs the body of an async function in the page; what it returns."""
    wrapped = (
        "const done = arguments[arguments.length - 1];"
        f"(async (...given) => {{ {script} }})(...arguments).then(done, (e) => done('threw: ' + e));"
    )
    return browser.execute_async_script(wrapped, *arguments)


def errors(browser):
    return [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]


class Chat:
    """A window with the demo's chat page, logged in. The cookie is the browser's: who logs in last is who the next connection
    is. `transport`: the only one that the page may use."""

    def __init__(self, browser, server, scheme, name, transport=None):
        browser.switch_to.new_window("window")
        self.browser, self.handle = browser, browser.current_window_handle
        browser.get(page_url(server, scheme, "/login"))
        self.fill("name", name)
        self.find("enter").click()
        wait_until(lambda: browser.find_elements("id", "state"), "the login does not lead to the chat", SECONDS)
        if transport:
            browser.get(page_url(server, scheme, f"/?transport={transport}"))
        self.wait("state", "connected, in chat:lobby")
        assert self.text("user") == name

    def find(self, name):
        self.browser.switch_to.window(self.handle)
        return self.browser.find_element("id", name)

    def text(self, name):
        return self.find(name).text

    def wait(self, name, text):
        wait_until(lambda: text in self.text(name), lambda: f"{text!r} in #{name}: {self.text(name)!r}", SECONDS)

    def fill(self, name, text):
        self.find(name).clear()
        self.find(name).send_keys(text)

    def join(self, room):
        self.fill("room", room)
        self.browser.find_element("css selector", "#join button").click()
        self.wait("state", f"connected, in chat:{room}")
        return self

    def say(self, text, button="send"):
        self.fill("text", text)
        self.find(button).click()

    def lines(self):
        self.browser.switch_to.window(self.handle)
        return [line.text for line in self.browser.find_elements("css selector", "#messages li:not(.note)")]
