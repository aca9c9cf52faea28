// Runs a fuzz target without libFuzzer: every file of a corpus, then mutations of them for some seconds.
//
//   fuzz_x [--seconds N] [--seed S] [--save DIR] FILE|DIR...
//
// Blind mutation, no coverage feedback: it needs no compiler support, so it runs in every `make check`; libFuzzer is
// what finds new paths. The same seed and corpus give the same inputs. An input that crashes or hangs the target is
// written to DIR/crash-HASH (DIR is "." unless told) from the signal handler, or from the sanitizer's last words. One
// thread.
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

// Present where a sanitizer is linked in. It ends the process without a signal, but calls this first.
extern "C" __attribute__((weak)) void __sanitizer_set_death_callback(void (*callback)());
// UBSan goes on after a report by default; that would not fail the run. It aborts, because beside ASan gcc's UBSan does
// not call ASan's callback.
extern "C" const char *__ubsan_default_options();
extern "C" const char *__ubsan_default_options() {
    return "halt_on_error=1:abort_on_error=1:print_stacktrace=1";
}

namespace {

using bytes = std::vector<uint8_t>;

constexpr size_t size_max = 64 * 1024; // of a mutated input
constexpr unsigned hang_seconds = 30;

const char *program = "fuzz";
std::vector<bytes> corpus;
uint64_t executions;

// For the signal handler: the input that is running, and where to write it.
const uint8_t *volatile running;
volatile size_t running_size;
char crash_path[4096];

uint64_t random_state;

// splitmix64 (Steele, Lea, Flood 2014): any seed will do.
uint64_t random_next() {
    uint64_t z = random_state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return z ^ z >> 31;
}

// In [0, bound); bound > 0.
size_t below(size_t bound) {
    return static_cast<size_t>(random_next() % bound);
}

// Only async-signal-safe calls from here to on_signal.

void say(const char *text) {
    // Nothing can be done here where standard error is gone.
    if (write(STDERR_FILENO, text, strlen(text)) < 0) return;
}

// Writes the running input, under the FNV-1a hash of it: the same crash is the same file.
void save_running() {
    if (!running) return;
    const uint8_t *data = running;
    running = nullptr; // once
    uint64_t hash = 0xcbf29ce484222325;
    for (size_t i = 0; i < running_size; i++)
        hash = (hash ^ data[i]) * 0x100000001b3;
    char *digit = crash_path + strlen(crash_path);
    for (int shift = 60; shift >= 0; shift -= 4)
        *digit++ = "0123456789abcdef"[hash >> shift & 0xf];
    int file = open(crash_path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    for (size_t done = 0; file >= 0 && done < running_size;) {
        ssize_t n = write(file, data + done, running_size - done);
        if (n <= 0) break;
        done += static_cast<size_t>(n);
    }
    say(program);
    say(file >= 0 ? ": input written to " : ": can't write ");
    say(crash_path);
    say("\n");
}

void on_signal(int number) {
    say(program);
    say(number == SIGALRM ? ": the target hangs\n" : ": the target crashed\n");
    save_running();
    signal(number, SIG_DFL); // so that the exit status tells
    raise(number);
}

// What a sanitizer has taken already stays its own: its report of a bad access is worth more than ours.
void catch_crashes() {
    // A stack of its own, because an endless recursion leaves none.
    static char stack[64 * 1024];
    stack_t alternate = {}, present = {};
    alternate.ss_sp = stack;
    alternate.ss_size = sizeof stack;
    if (sigaltstack(nullptr, &present) == 0 && (present.ss_flags & SS_DISABLE)) sigaltstack(&alternate, nullptr);

    struct sigaction action = {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_ONSTACK | SA_NODEFER;
    for (int number : {SIGABRT, SIGALRM, SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP}) {
        struct sigaction taken = {};
        sigaction(number, nullptr, &taken);
        if (taken.sa_handler == SIG_DFL) sigaction(number, &action, nullptr);
    }
    if (__sanitizer_set_death_callback) __sanitizer_set_death_callback(save_running);
}

// The target gets a block of the input's exact size, so that AddressSanitizer sees a read behind the end. Of malloc(0)
// it would let one byte be read.
void execute(const bytes &input) {
    running = input.data();
    running_size = input.size();
    uint8_t *block = static_cast<uint8_t *>(malloc(input.empty() ? 1 : input.size()));
    if (!block) abort();
    uint8_t *data = input.empty() ? block + 1 : block;
    std::copy(input.begin(), input.end(), data);
    if (executions++ % 256 == 0) alarm(hang_seconds);
    LLVMFuzzerTestOneInput(data, input.size());
    free(block);
    running = nullptr;
}

bool read_file(const std::string &path) {
    FILE *file = fopen(path.c_str(), "rb");
    if (!file) return false;
    bytes input;
    uint8_t part[4096];
    size_t n;
    while ((n = fread(part, 1, sizeof part, file)) > 0)
        input.insert(input.end(), part, part + n);
    bool fine = !ferror(file);
    fclose(file);
    if (fine) corpus.push_back(std::move(input));
    return fine;
}

// A file, or the files of a directory in the order of their names, as the seed must mean the same everywhere.
bool read_inputs(const std::string &path) {
    struct stat status;
    if (stat(path.c_str(), &status) < 0) return false;
    if (!S_ISDIR(status.st_mode)) return read_file(path);
    DIR *directory = opendir(path.c_str());
    if (!directory) return false;
    std::vector<std::string> names;
    while (const dirent *entry = readdir(directory))
        if (entry->d_name[0] != '.') names.push_back(entry->d_name);
    closedir(directory);
    std::sort(names.begin(), names.end());
    for (const std::string &name : names)
        if (!read_inputs(path + "/" + name)) return false;
    return true;
}

// Up to 32 bytes of some input: words of the format come over from where they make sense.
bytes dictionary_word() {
    const bytes &from = corpus[below(corpus.size())];
    if (from.empty()) return {};
    size_t begin = below(from.size());
    size_t n = 1 + below(std::min<size_t>(32, from.size() - begin));
    return bytes(from.data() + begin, from.data() + begin + n);
}

// Numbers at the edges of their types, in 1 to 8 bytes, of either byte order.
bytes interesting_integer() {
    static const uint64_t numbers[] = {
        0,     1,     2,     16,         32,         64,         100,        124,       125,        126,
        127,   128,   129,   255,        256,        1000,       1023,       1024,      4096,       32767,
        32768, 65535, 65536, 0x7fffffff, 0x80000000, 0xffffffff, UINT64_MAX, INT64_MAX, 1ull << 63, 1ull << 32};
    uint64_t number = numbers[below(std::size(numbers))];
    size_t n = size_t{1} << below(4);
    bytes out;
    for (size_t i = 0; i < n; i++)
        out.push_back(static_cast<uint8_t>(number >> 8 * i));
    if (below(2)) std::reverse(out.begin(), out.end());
    return out;
}

// Puts the word in at a place, or over what is there.
void put_word(bytes *input, const bytes &word) {
    size_t at = below(input->size() + 1);
    if (below(2)) {
        input->insert(input->begin() + static_cast<ptrdiff_t>(at), word.begin(), word.end());
    } else {
        size_t n = std::min(word.size(), input->size() - at);
        std::copy_n(word.begin(), n, input->begin() + static_cast<ptrdiff_t>(at));
    }
}

// The first part of the input and the last part of another.
void splice(bytes *input) {
    const bytes &other = corpus[below(corpus.size())];
    input->resize(below(input->size() + 1));
    size_t from = below(other.size() + 1);
    input->insert(input->end(), other.begin() + static_cast<ptrdiff_t>(from), other.end());
}

void mutate_once(bytes *input) {
    size_t size = input->size();
    switch (below(8)) {
    case 0: // flip a bit
        if (size > 0) (*input)[below(size)] ^= static_cast<uint8_t>(1u << below(8));
        break;
    case 1: // another byte
        if (size > 0) (*input)[below(size)] = static_cast<uint8_t>(random_next());
        break;
    case 2: // one byte more
        input->insert(input->begin() + static_cast<ptrdiff_t>(below(size + 1)), static_cast<uint8_t>(random_next()));
        break;
    case 3: // some bytes less
        if (size > 0) {
            size_t begin = below(size), n = 1 + below(std::min<size_t>(16, size - begin));
            auto first = input->begin() + static_cast<ptrdiff_t>(begin);
            input->erase(first, first + static_cast<ptrdiff_t>(n));
        }
        break;
    case 4: // a part of the input again, elsewhere
        if (size > 0) {
            size_t begin = below(size), n = 1 + below(size - begin);
            put_word(input, bytes(input->data() + begin, input->data() + begin + n));
        }
        break;
    case 5:
        put_word(input, dictionary_word());
        break;
    case 6:
        put_word(input, interesting_integer());
        break;
    default:
        splice(input);
    }
    if (input->size() > size_max) input->resize(size_max);
}

double now() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

void mutate_for(double seconds) {
    double end = now() + seconds;
    bytes input;
    while (now() < end) {
        input = corpus[below(corpus.size())];
        for (size_t n = size_t{1} << below(5); n > 0; n--)
            mutate_once(&input);
        execute(input);
    }
}

[[noreturn]] void usage() {
    fprintf(stderr, "usage: %s [--seconds N] [--seed S] [--save DIR] FILE|DIR...\n", program);
    exit(2);
}

uint64_t number_argument(const char *text) {
    char *end = nullptr;
    errno = 0;
    uint64_t n = strtoull(text, &end, 10);
    if (errno || end == text || *end) usage();
    return n;
}

} // namespace

int main(int argc, char **argv) {
    const char *slash = strrchr(argv[0], '/');
    program = slash ? slash + 1 : argv[0];
    uint64_t seconds = 0;
    random_state = static_cast<uint64_t>(time(nullptr)) << 20 ^ static_cast<uint64_t>(getpid());
    const char *save = ".";
    int i = 1;
    for (; i < argc && strncmp(argv[i], "--", 2) == 0; i += 2) {
        if (i + 1 == argc) usage();
        if (strcmp(argv[i], "--seconds") == 0) {
            seconds = number_argument(argv[i + 1]);
        } else if (strcmp(argv[i], "--seed") == 0) {
            random_state = number_argument(argv[i + 1]);
        } else if (strcmp(argv[i], "--save") == 0) {
            save = argv[i + 1];
        } else {
            usage();
        }
    }
    if (i == argc) usage();
    // 16 digits of the hash and the NUL are still to come.
    if (snprintf(crash_path, sizeof crash_path - 16, "%s/crash-", save) >= static_cast<int>(sizeof crash_path - 16))
        usage();
    for (; i < argc; i++)
        if (!read_inputs(argv[i])) {
            fprintf(stderr, "%s: %s: %s\n", program, argv[i], strerror(errno));
            return 2;
        }

    if (corpus.empty()) {
        fprintf(stderr, "%s: no inputs\n", program); // a wrong path must not look like success
        return 2;
    }

    catch_crashes();
    execute({});
    for (const bytes &input : corpus)
        execute(input);
    if (seconds > 0) {
        printf("%s: seed %llu\n", program, static_cast<unsigned long long>(random_state));
        fflush(stdout); // a crash must not take it along
        mutate_for(static_cast<double>(seconds));
    }
    printf("%s: %zu inputs, %llu executions, ok\n", program, corpus.size(),
           static_cast<unsigned long long>(executions));
    return 0;
}
