// Refusals: the one way by which an HTTP error leaves Belfry, and the reason phrases.
//
// Pure functions that append to the caller's buffer. Any thread.
#include "proto/handshake.h"
#include "proto/http1.h"
#include "proto/json.h"

namespace belfry {

namespace {

constexpr struct {
    int status;
    const char *reason;
} reasons[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {200, "OK"},
    {202, "Accepted"},
    {204, "No Content"},
    {304, "Not Modified"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {411, "Length Required"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {426, "Upgrade Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
};

} // namespace

const char *http1_reason(int status) {
    for (const auto &row : reasons) {
        if (row.status == status) return row.reason;
    }
    return "Unknown";
}

void http1_write_error(int status, view message, view extra, bool keep_alive, buffer *out) {
    buffer body = {};
    json_write_error(&body, status, message); // which may hold the client's bytes
    buffer_printf(out,
                  "HTTP/1.1 %d %s\r\nConnection: %s\r\nContent-Type: application/json\r\n"
                  "Content-Length: %zu\r\n",
                  status, http1_reason(status), keep_alive ? "keep-alive" : "close", body.size);
    buffer_append(out, extra);
    buffer_append(out, "\r\n");
    buffer_append(out, buffer_view(&body));
    buffer_free(&body);
}

} // namespace belfry
