// Versions of libevent, OpenSSL and hiredis, as built with and as found at run time.
#include "net/versions.h"

#include <event2/event.h>
#include <hiredis/hiredis.h>
#include <openssl/crypto.h>
#include <stdio.h>

namespace belfry {

const char *net_versions() {
    static char text[512];
    snprintf(text, sizeof text,
             "libevent: built with %s, running %s\nopenssl: built with %s, running %s\nhiredis: built with %d.%d.%d\n",
             LIBEVENT_VERSION, event_get_version(), OPENSSL_VERSION_TEXT, OpenSSL_version(OPENSSL_VERSION),
             HIREDIS_MAJOR, HIREDIS_MINOR, HIREDIS_PATCH);
    return text;
}

} // namespace belfry
