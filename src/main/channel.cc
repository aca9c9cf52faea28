// The codec of the messages between master and worker process. No state: any thread.
#include "main/channel.h"

#include "base/error.h"

#include <string.h>

namespace belfry {

static constexpr struct {
    const char *word;
    size_t fields;
} shapes[] = {
    {"log", 3},       {"pid_file", 1}, {"node", 1},     {"keep_none", 0}, {"keep", 3},    {"kept", 0},   {"ready", 0},
    {"reloading", 0}, {"reloaded", 0}, {"stopping", 0}, {"alive", 0},     {"settled", 0}, {"retire", 0}, {"succeed", 0},
};
static_assert(sizeof shapes / sizeof shapes[0] == channel_kind_count);

std::string channel_encode(const channel_message *m) {
    const auto &shape = shapes[static_cast<int>(m->kind)];
    if (m->fields.size() != shape.fields) fatal("channel: %zu fields for %s", m->fields.size(), shape.word);
    std::string out = shape.word;
    for (const std::string &field : m->fields) {
        out += '\0';
        out += field.c_str(); // a NUL inside would be another field
    }
    return out;
}

bool channel_decode(view bytes, channel_message *out) {
    size_t end = bytes.find('\0');
    view word = bytes.substr(0, end);
    out->fields.clear();
    int kind = 0;
    while (kind < channel_kind_count && word != shapes[kind].word)
        kind++;
    if (kind == channel_kind_count) return false;
    out->kind = static_cast<channel_kind>(kind);
    while (end != view::npos) {
        if (out->fields.size() == shapes[kind].fields) return false;
        bytes.remove_prefix(end + 1);
        end = bytes.find('\0');
        out->fields.emplace_back(bytes.substr(0, end));
    }
    return out->fields.size() == shapes[kind].fields;
}

} // namespace belfry
