// belfryctl top: asks once a second, draws with plain ANSI. Its own process, one thread.
#include "main/belfryctl_top.h"

#include "base/frame.h"
#include "main/top_frame.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

namespace belfry {

static constexpr int64_t period_ms = 1000;
static constexpr size_t once_width = 110, once_height = 48;

// ---------------------------------------------------------------- the terminal

static volatile sig_atomic_t ended; // by a signal
static struct termios before;
static bool drawing; // the terminal is ours: raw, and on its other screen

static void on_signal(int) {
    ended = 1;
}
static void on_resize(int) {} // poll returns: the next frame has the new size

static void give_back() {
    if (!drawing) return;
    drawing = false;
    tcsetattr(STDIN_FILENO, TCSANOW, &before);
    fputs("\x1b[?25h\x1b[?1049l", stdout);
    fflush(stdout);
}

static void take_terminal() {
    struct sigaction act = {};
    act.sa_handler = on_signal;
    for (int number : {SIGINT, SIGTERM, SIGHUP})
        sigaction(number, &act, nullptr);
    act.sa_handler = on_resize;
    sigaction(SIGWINCH, &act, nullptr);
    if (tcgetattr(STDIN_FILENO, &before) != 0) return;
    struct termios raw = before;
    raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    drawing = true;
    fputs("\x1b[?1049h\x1b[?25l", stdout);
}

static void draw(const std::vector<std::string> &lines) {
    std::string out = "\x1b[H";
    for (size_t i = 0; i < lines.size(); i++)
        out += (i ? "\r\n" : "") + lines[i] + "\x1b[K";
    out += "\x1b[J";
    fwrite(out.data(), 1, out.size(), stdout);
    fflush(stdout);
}

static int64_t now_ms() {
    struct timespec t = {};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<int64_t>(t.tv_sec) * 1000 + t.tv_nsec / 1000000;
}

// True where it is time to go: q, a signal, the end of what is typed. Returns early where the window changed.
static bool wait_for(int64_t until_ms, bool *resized) {
    *resized = false;
    for (;;) {
        int64_t left = until_ms - now_ms();
        if (ended) return true;
        if (left <= 0) return false;
        struct pollfd keys = {STDIN_FILENO, POLLIN, 0};
        int n = poll(&keys, 1, static_cast<int>(left));
        if (n < 0 && errno == EINTR) {
            *resized = !ended;
            return ended;
        }
        char key = 0;
        if (n > 0 && (read(STDIN_FILENO, &key, 1) <= 0 || key == 'q' || key == 'Q')) return true;
    }
}

// ---------------------------------------------------------------- samples

static int fail(const std::string &text) {
    give_back();
    fprintf(stderr, "belfryctl: %s\n", text.c_str());
    return 1;
}

// Empty, or why there is none.
static std::string take_sample(const control_target *t, json_reader *reader, top_sample *out) {
    control_answer answer;
    error e;
    if (!control_ask(t, "GET", "/v1/live", "", &answer))
        return "no answer from " + (t->url.empty() ? t->socket : t->url) + ": " + strerror(errno);
    if (answer.status != 200) return "the daemon answered " + std::to_string(answer.status);
    frame *padded = frame_copy(answer.body);
    *out = {};
    bool fine = top_sample_read(reader, frame_view(padded), out, &e);
    frame_unref(padded);
    return fine ? "" : e.text;
}

static std::vector<std::string> frame_of(const top_sample *now, const top_sample *last) {
    struct winsize size = {};
    bool terminal = drawing && ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col && size.ws_row;
    return top_frame(now, last, terminal ? size.ws_col : once_width, terminal ? size.ws_row : once_height, drawing);
}

static int show_once(const control_target *t, json_reader *reader) {
    top_sample first, second;
    std::string why = take_sample(t, reader, &first);
    struct timespec pause = {period_ms / 1000, 0};
    if (why.empty()) nanosleep(&pause, nullptr);
    if (why.empty()) why = take_sample(t, reader, &second);
    if (!why.empty()) return fail(why);
    for (const std::string &line : frame_of(&second, &first))
        puts(line.c_str());
    return 0;
}

// A daemon that is gone for a while (an upgrade, a crash) is waited for; one that never answered is not.
static int show_live(const control_target *t, json_reader *reader) {
    top_sample samples[2];
    int at = 0;
    std::string why = take_sample(t, reader, &samples[0]);
    if (!why.empty()) return fail(why);
    take_terminal();
    if (!drawing) return fail("top: standard input is no terminal; see --once");
    bool fresh = true;
    for (bool resized = false;;) {
        std::vector<std::string> lines = frame_of(&samples[at], fresh ? nullptr : &samples[1 - at]);
        if (!why.empty() && !lines.empty()) lines[0] = why;
        draw(lines);
        if (wait_for(now_ms() + period_ms, &resized)) break;
        if (resized) continue;
        why = take_sample(t, reader, &samples[1 - at]);
        fresh = !why.empty();
        if (why.empty()) at = 1 - at;
    }
    give_back();
    return 0;
}

int belfryctl_top(const control_target *t, bool once) {
    json_reader *reader = json_reader_new();
    int code = once ? show_once(t, reader) : show_live(t, reader);
    json_reader_free(reader);
    return code;
}

} // namespace belfry
