// Option rows at work: finding, defaults, parsing, formatting. Main thread, cold path.
//
// Error texts name the value and what would be right; the caller puts file, line and option in front.
#include "base/options.h"

#include <algorithm>
#include <string.h>

namespace belfry {

namespace {

struct unit {
    const char *name;
    int64_t factor;
};

// Ascending, so that the last exact one is the largest.
constexpr unit duration_units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}, {"d", 86400000}};
constexpr unit size_units[] = {{"", 1}, {"k", 1 << 10}, {"m", 1 << 20}, {"g", 1 << 30}};

constexpr const char *true_names[] = {"yes", "on", "true", "1"};
constexpr const char *false_names[] = {"no", "off", "false", "0"};

template <typename type> type *field(const option_row *row, void *object) {
    return reinterpret_cast<type *>(static_cast<char *>(object) + row->offset);
}

template <typename type> const type *field(const option_row *row, const void *object) {
    return reinterpret_cast<const type *>(static_cast<const char *>(object) + row->offset);
}

// For an error text: in quotes, long ones cut, so that what should be written is not pushed out.
std::string quote(view value) {
    constexpr size_t limit = 80;
    std::string text = "\"";
    text += value.substr(0, limit);
    return text += value.size() > limit ? "...\"" : "\"";
}

// "a", "a or b", "a, b or c".
std::string enumerate(const char *const *names, size_t count) {
    std::string text;
    for (size_t i = 0; i < count; i++) {
        if (i > 0) text += i + 1 == count ? " or " : ", ";
        text += names[i];
    }
    return text;
}

size_t choice_count(const option_row *row) {
    size_t count = 0;
    while (row->choices[count])
        count++;
    return count;
}

// How a number of this row's type is written in the file.
void format_number(option_type type, int64_t n, buffer *out) {
    const unit *units = type == option_type::duration ? duration_units : size_units;
    size_t count = type == option_type::duration ? std::size(duration_units) : std::size(size_units);
    if (type == option_type::integer) count = 1; // size_units[0]: no unit
    const unit *best = units;
    for (const unit *u = units; u < units + count && n != 0; u++) {
        if (n % u->factor == 0) best = u;
    }
    if (n == 0 && type == option_type::duration) best = &duration_units[1]; // 0s
    buffer_append_int(out, n / best->factor);
    buffer_append(out, best->name);
}

std::string number_text(option_type type, int64_t n) {
    buffer b = {};
    format_number(type, n, &b);
    std::string text(buffer_view(&b));
    buffer_free(&b);
    return text;
}

bool fail_range(const option_row *row, view value, error *e) {
    error_set(e, "%s is out of range: write %s to %s", quote(value).c_str(),
              number_text(row->type, row->minimum).c_str(), number_text(row->type, row->maximum).c_str());
    return false;
}

bool fail_number(const option_row *row, view value, error *e) {
    const char *wanted = "a number: write digits alone";
    if (row->type == option_type::size) wanted = "a size: write plain bytes, or 64k, 1m or 2g";
    if (row->type == option_type::duration) wanted = "a duration: write 500ms, 10s, 5m, 1h or 2d";
    error_set(e, "%s is not %s", quote(value).c_str(), wanted);
    return false;
}

// The number of `type`'s smallest units that `unit_name` stands for; 0 where there is no such unit. Sizes are
// written 64K as often as 64k; M for minutes would be taken for months, so durations are lower case alone.
int64_t unit_factor(option_type type, view unit_name) {
    if (type == option_type::integer) return unit_name.empty() ? 1 : 0;
    if (type == option_type::duration) {
        for (const unit &u : duration_units) {
            if (unit_name == u.name) return u.factor;
        }
        return 0;
    }
    for (const unit &u : size_units) {
        if (bytes_equal_nocase(unit_name, u.name)) return u.factor;
    }
    return 0;
}

bool parse_number(const option_row *row, view value, void *object, error *e) {
    bool negative = value.starts_with('-');
    view rest = value.substr(negative ? 1 : 0);
    size_t digits = 0;
    while (digits < rest.size() && rest[digits] >= '0' && rest[digits] <= '9')
        digits++;
    if (digits == 0) return fail_number(row, value, e);
    view unit_name = rest.substr(digits);
    // Digits alone, as a number that may be too large for any type: leading zeros do not count.
    rest = rest.substr(0, digits);
    rest.remove_prefix(std::min(rest.find_first_not_of('0'), digits));
    bool zero = rest.empty();
    int64_t factor = unit_factor(row->type, unit_name);
    if (row->type == option_type::duration && unit_name.empty()) {
        if (!zero) {
            error_set(e, "%s has no unit: write 500ms, 10s, 5m, 1h or 2d", quote(value).c_str());
            return false;
        }
        factor = 1;
    }
    if (factor == 0) return fail_number(row, value, e);
    uint64_t magnitude = 0;
    if (!zero && !bytes_parse_uint(rest, &magnitude)) return fail_range(row, value, e);
    int64_t n = 0; // built on the negative side, which reaches one further
    if (__builtin_mul_overflow(magnitude, -factor, &n)) return fail_range(row, value, e);
    if (!negative && __builtin_sub_overflow(int64_t{0}, n, &n)) return fail_range(row, value, e);
    if (n < row->minimum || n > row->maximum) return fail_range(row, value, e);
    *field<int64_t>(row, object) = n;
    return true;
}

bool parse_boolean(const option_row *row, view value, void *object, error *e) {
    for (size_t i = 0; i < std::size(true_names); i++) {
        bool is_true = bytes_equal_nocase(value, true_names[i]);
        if (!is_true && !bytes_equal_nocase(value, false_names[i])) continue;
        *field<bool>(row, object) = is_true;
        return true;
    }
    error_set(e, "%s is neither yes nor no: write yes, on, true or 1, or else no, off, false or 0",
              quote(value).c_str());
    return false;
}

bool parse_choice(const option_row *row, view value, void *object, error *e) {
    size_t count = choice_count(row);
    for (size_t i = 0; i < count; i++) {
        if (value != row->choices[i]) continue;
        *field<int32_t>(row, object) = static_cast<int32_t>(i);
        return true;
    }
    std::string hint;
    const char *nearest = nearest_name(value, row->choices, count);
    if (nearest) hint = std::string("; did you mean ") + nearest + "?";
    error_set(e, "%s is not known here: write %s%s", quote(value).c_str(), enumerate(row->choices, count).c_str(),
              hint.c_str());
    return false;
}

bool parse_list(const option_row *row, view value, void *object, error *e) {
    if (bytes_trim(value).empty()) return true;
    std::vector<std::string> parts;
    for (size_t at = 0; at <= value.size();) {
        size_t comma = std::min(value.find(',', at), value.size());
        view part = bytes_trim(value.substr(at, comma - at));
        if (part.empty()) {
            error_set(e, "%s has an empty entry: write entries with one comma between them", quote(value).c_str());
            return false;
        }
        parts.emplace_back(part);
        at = comma + 1;
    }
    std::vector<std::string> *list = field<std::vector<std::string>>(row, object);
    list->insert(list->end(), parts.begin(), parts.end());
    return true;
}

bool parse_line(const option_row *row, view value, void *object, error *e) {
    if (value.empty()) return true;
    if (value.find_first_of("\r\n") != view::npos) { // from ${ENV}: -T could not write it back
        error_set(e, "the value holds a line break: write one value a line, and repeat the option");
        return false;
    }
    field<std::vector<std::string>>(row, object)->emplace_back(value);
    return true;
}

// From a file or ${ENV}, so it may hold line breaks; option_format shows none of it.
bool parse_secret_of_many(const option_row *row, view value, void *object) {
    if (!value.empty()) field<std::vector<std::string>>(row, object)->emplace_back(value);
    return true;
}

// One of the two numbers of a rate: 40, 64k.
bool parse_rate_number(view text, int64_t *out) {
    size_t digits = 0;
    while (digits < text.size() && text[digits] >= '0' && text[digits] <= '9')
        digits++;
    uint64_t n = 0;
    int64_t factor = unit_factor(option_type::size, text.substr(digits));
    if (factor == 0 || !bytes_parse_uint(text.substr(0, digits), &n)) return false;
    return !__builtin_mul_overflow(n, factor, out) && *out <= rate_most;
}

bool fail_rate(view value, error *e) {
    error_set(e, "%s is not a rate: write 20/s, 20/s burst=40, 64k/s burst=256k, 100/m or 5/h; 0 for no limit",
              quote(value).c_str());
    return false;
}

bool parse_rate(const option_row *row, view value, void *object, error *e) {
    struct rate parsed = {};
    size_t space = std::min(value.find_first_of(" \t"), value.size());
    view amount = value.substr(0, space), burst = bytes_trim(value.substr(space));
    size_t slash = amount.find('/');
    if (slash != view::npos) {
        view period = amount.substr(slash + 1);
        if (period == "s") parsed.period_ms = 1000;
        if (period == "m") parsed.period_ms = 60000;
        if (period == "h") parsed.period_ms = 3600000;
        if (!parsed.period_ms) return fail_rate(value, e);
    }
    if (!value.empty() && !parse_rate_number(amount.substr(0, slash), &parsed.amount)) return fail_rate(value, e);
    if (parsed.amount && !parsed.period_ms) return fail_rate(value, e); // 20: in which time?
    parsed.burst = parsed.amount;
    if (!burst.empty()) {
        constexpr view key = "burst=";
        if (!burst.starts_with(key) || !parse_rate_number(burst.substr(key.size()), &parsed.burst) || !parsed.burst)
            return fail_rate(value, e);
    }
    if (!parsed.amount) parsed = {};
    *field<struct rate>(row, object) = parsed;
    return true;
}

void format_rate(const struct rate *r, buffer *out) {
    format_number(option_type::size, r->amount, out);
    if (!r->amount) return;
    buffer_append(out, r->period_ms == 1000 ? "/s" : r->period_ms == 60000 ? "/m" : "/h");
    if (r->burst == r->amount) return;
    buffer_append(out, " burst=");
    format_number(option_type::size, r->burst, out);
}

void format_joined(const std::vector<std::string> *entries, view between, buffer *out) {
    for (size_t i = 0; i < entries->size(); i++) {
        if (i > 0) buffer_append(out, between);
        buffer_append(out, (*entries)[i]);
    }
}

// A default of several lines has them joined by "\n", as option_format writes them.
void set_default(const option_row *row, void *object) {
    error e;
    view value = row->default_value;
    if (option_repeats(row)) field<std::vector<std::string>>(row, object)->clear();
    bool good = true;
    if (row->type == option_type::lines) {
        for (size_t at = 0; at <= value.size() && good;) {
            size_t end = std::min(value.find('\n', at), value.size());
            good = option_parse(row, value.substr(at, end - at), object, &e);
            at = end + 1;
        }
    } else {
        good = option_parse(row, value, object, &e);
    }
    if (!good) fatal("the default of [%s] %s: %s", row->section, row->name, e.text);
}

// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours each cost 1, and no
// part is edited twice. ASCII case does not count: "Listen" is as near to "listen" as can be.
size_t alignment_distance(view a, view b) {
    std::vector<size_t> before_last, last(b.size() + 1), row(b.size() + 1);
    for (size_t j = 0; j <= b.size(); j++)
        last[j] = j;
    auto same = [&](size_t i, size_t j) { return bytes_equal_nocase(a.substr(i - 1, 1), b.substr(j - 1, 1)); };
    for (size_t i = 1; i <= a.size(); i++) {
        row[0] = i;
        for (size_t j = 1; j <= b.size(); j++) {
            row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (same(i, j) ? 0 : 1)});
            bool swapped = i > 1 && j > 1 && same(i, j - 1) && same(i - 1, j);
            if (swapped) row[j] = std::min(row[j], before_last[j - 2] + 1);
        }
        before_last = last;
        last = row;
    }
    return last[b.size()];
}

} // namespace

const option_row *option_find(const option_row *rows, size_t count, view section, view name) {
    for (size_t i = 0; i < count; i++) {
        if (section == rows[i].section && name == rows[i].name) return &rows[i];
    }
    return nullptr;
}

void options_defaults(const option_row *rows, size_t count, view section, void *object) {
    for (size_t i = 0; i < count; i++) {
        if (section == rows[i].section) set_default(&rows[i], object);
    }
}

bool option_parse(const option_row *row, view value, void *object, error *e) {
    switch (row->type) {
    case option_type::boolean:
        return parse_boolean(row, bytes_trim(value), object, e);
    case option_type::integer:
    case option_type::size:
    case option_type::duration:
        return parse_number(row, bytes_trim(value), object, e);
    case option_type::choice:
        return parse_choice(row, bytes_trim(value), object, e);
    case option_type::list:
        return parse_list(row, value, object, e);
    case option_type::lines:
        return parse_line(row, value, object, e);
    case option_type::secrets:
        return parse_secret_of_many(row, value, object);
    case option_type::rate:
        return parse_rate(row, bytes_trim(value), object, e);
    case option_type::text:
    case option_type::secret:
        field<std::string>(row, object)->assign(value);
        return true;
    }
    fatal("[%s] %s: an option type that does not exist", row->section, row->name);
}

// A URL keeps all but its password, so that what -T prints can be read again; anything else is hidden whole.
static void format_secret(const std::string &value, buffer *out) {
    size_t scheme = value.find("://"), at = value.rfind('@');
    std::string name = value.substr(0, scheme);
    if (name != "redis" && name != "rediss" && name != "unix") {
        buffer_append(out, value.empty() ? "" : "***");
        return;
    }
    size_t colon = value.find(':', scheme + 3);
    if (at == std::string::npos || colon == std::string::npos || colon > at) {
        buffer_append(out, value);
        return;
    }
    buffer_append(out, view(value).substr(0, colon + 1));
    buffer_append(out, "***");
    buffer_append(out, view(value).substr(at));
}

static void format_hidden(size_t count, buffer *out) {
    for (size_t i = 0; i < count; i++)
        buffer_append(out, i > 0 ? "\n***" : "***");
}

void option_format(const option_row *row, const void *object, buffer *out) {
    switch (row->type) {
    case option_type::boolean:
        buffer_append(out, *field<bool>(row, object) ? "yes" : "no");
        return;
    case option_type::integer:
    case option_type::size:
    case option_type::duration:
        format_number(row->type, *field<int64_t>(row, object), out);
        return;
    case option_type::choice:
        buffer_append(out, row->choices[*field<int32_t>(row, object)]);
        return;
    case option_type::list:
        format_joined(field<std::vector<std::string>>(row, object), ", ", out);
        return;
    case option_type::lines:
        format_joined(field<std::vector<std::string>>(row, object), "\n", out);
        return;
    case option_type::text:
        buffer_append(out, *field<std::string>(row, object));
        return;
    case option_type::secret:
        format_secret(*field<std::string>(row, object), out);
        return;
    case option_type::secrets:
        format_hidden(field<std::vector<std::string>>(row, object)->size(), out);
        return;
    case option_type::rate:
        format_rate(field<struct rate>(row, object), out);
        return;
    }
}

// Calls `act` with null pointers of the field's type, so that each type is named once.
template <typename function> static auto with_field_type(const option_row *row, function act) {
    switch (row->type) {
    case option_type::boolean:
        return act(static_cast<bool *>(nullptr));
    case option_type::integer:
    case option_type::size:
    case option_type::duration:
        return act(static_cast<int64_t *>(nullptr));
    case option_type::choice:
        return act(static_cast<int32_t *>(nullptr));
    case option_type::list:
    case option_type::lines:
    case option_type::secrets:
        return act(static_cast<std::vector<std::string> *>(nullptr));
    case option_type::text:
    case option_type::secret:
        return act(static_cast<std::string *>(nullptr));
    case option_type::rate:
        return act(static_cast<struct rate *>(nullptr));
    }
    fatal("[%s] %s: an option type that does not exist", row->section, row->name);
}

bool option_equal(const option_row *row, const void *a, const void *b) {
    return with_field_type(row, [&]<typename type>(type *) { return *field<type>(row, a) == *field<type>(row, b); });
}

void option_copy(const option_row *row, const void *from, void *to) {
    with_field_type(row, [&]<typename type>(type *) { *field<type>(row, to) = *field<type>(row, from); });
}

const char *nearest_name(view name, const char *const *candidates, size_t count) {
    const char *nearest = nullptr;
    size_t least = 1 + name.size() / 3 + 1; // the first that is too far
    for (size_t i = 0; i < count; i++) {
        view candidate = candidates[i];
        // The distance is never less than the difference in length; a huge name costs nothing this way.
        size_t longer = std::max(name.size(), candidate.size()), shorter = std::min(name.size(), candidate.size());
        if (longer - shorter >= least) continue;
        size_t distance = alignment_distance(name, candidate);
        if (distance >= least) continue;
        least = distance;
        nearest = candidates[i];
    }
    return nearest;
}

} // namespace belfry
