// Reads stream entries. Owns nothing; any thread.
#include "proto/stream_entry.h"

namespace belfry {

static bool parse_part(view text, uint64_t *out) {
    return bytes_parse_uint(text, out) && (text.size() == 1 || text[0] != '0');
}

bool stream_id_parse(view text, stream_id *out) {
    size_t dash = text.find('-');
    if (dash == view::npos) return false;
    return parse_part(text.substr(0, dash), &out->ms) && parse_part(text.substr(dash + 1), &out->sequence);
}

bool stream_entry_history(view id, const view *words, size_t word_count, uint64_t *offset, view *envelope, error *e) {
    stream_id parsed;
    if (!stream_id_parse(id, &parsed) || parsed.ms == 0 || parsed.ms > INT64_MAX || parsed.sequence != 0) {
        error_set(e, "history: an entry's id is not OFFSET-0");
        return false;
    }
    if (word_count != 2 || words[0] != "m") {
        error_set(e, "history: an entry has other fields than m");
        return false;
    }
    if (!words[1].starts_with("{")) {
        error_set(e, "history: an entry does not begin with an envelope's head");
        return false;
    }
    *offset = parsed.ms;
    *envelope = words[1];
    return true;
}

bool stream_entry_command(const view *words, size_t word_count, view *command, error *e) {
    size_t found = 0;
    for (size_t i = 0; i + 1 < word_count; i += 2) {
        if (words[i] != "command") continue;
        *command = words[i + 1];
        found++;
    }
    if (word_count % 2 == 0 && found == 1) return true;
    error_set(e, "it must have the field `command` once");
    return false;
}

} // namespace belfry
