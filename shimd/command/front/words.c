/* The command line: only what is usual is understood here, in the ways in which callers write it (flags.py). */
#include "front.h"

enum kind { WORD, SWITCH, FORMAT };

struct flag {
    const char *verb; /* "" before the verb */
    const char *name;
    enum kind kind;
    int64_t field; /* in struct words */
};

#define FIELD(name) __builtin_offsetof(struct words, name)
static const struct flag flags[] = {
    {"", "root", WORD, FIELD(root)},
    {"", "log", WORD, FIELD(log)},
    {"", "log-format", FORMAT, 0},
    {"create", "bundle", WORD, FIELD(bundle)},
    {"create", "b", WORD, FIELD(bundle)},
    {"create", "pid-file", WORD, FIELD(pid_file)},
    {"create", "no-new-keyring", SWITCH, FIELD(no_keyring)},
    {"delete", "force", SWITCH, FIELD(force)},
    {"delete", "f", SWITCH, FIELD(force)},
};

const char *variable(const struct words *words, const char *name)
{
    for (char **entry = words->environment; *entry; entry++)
        if (begins(*entry, name) && (*entry)[length(name)] == '=')
            return *entry + length(name) + 1;
    return 0;
}

/* Takes `--flag value` or `--flag=value`, one dash or two, and returns the last of the words that it took. */
static char **take(struct words *words, char **at)
{
    const char *name = *at + ((*at)[1] == '-' ? 2 : 1);
    for (unsigned i = 0; i < sizeof flags / sizeof *flags; i++) {
        const struct flag *flag = flags + i;
        int64_t bytes = length(flag->name);
        char *value = 0;
        if (!same(flag->verb, words->verb ? words->verb : "") || !begins(name, flag->name))
            continue;
        if (flag->kind == SWITCH && !name[bytes]) {
            *(int *)((char *)words + flag->field) = 1;
            return at;
        }
        if (flag->kind == SWITCH)
            continue;
        if (name[bytes] == '=')
            value = (char *)name + bytes + 1;
        else if (!name[bytes])
            value = *++at;
        else
            continue;
        if (!value || !*value)
            return 0;
        if (flag->kind == FORMAT && !same(value, "text") && !same(value, "json"))
            return 0;
        if (flag->kind == WORD)
            *(const char **)((char *)words + flag->field) = value;
        return at;
    }
    return 0;
}

static int is_id(const char *id)
{
    int64_t bytes = length(id);
    for (const char *at = id; *at; at++)
        if (!((*at >= 'a' && *at <= 'z') || (*at >= 'A' && *at <= 'Z') || (*at >= '0' && *at <= '9') || *at == '_' ||
              *at == '+' || *at == '-' || *at == '.'))
            return 0;
    return bytes > 0 && bytes <= 255 && *id != '.';
}

/* Is it an absolute path without detours? What `..` means where symlinks are is not decided here. */
static int is_plain_path(const char *path)
{
    if (*path != '/' || length(path) > PATH_BYTES / 2)
        return 0;
    for (; *path; path++)
        if (*path == '/' && (path[1] == '/' || (path[1] == '.' && (path[2] == '/' || !path[2] ||
                                                                   (path[2] == '.' && (path[3] == '/' || !path[3]))))))
            return 0;
    return 1;
}

/* As main.py does, before anything else: the file is there, though nothing will be said in it. */
static int open_log(const char *path)
{
    long fd;
    if (!path || same(path, "/dev/stderr"))
        return 1;
    fd = CALL4(OPENAT, AT_FDCWD, path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0644);
    if (fd >= 0)
        CALL1(CLOSE, fd);
    return fd >= 0;
}

int read_words(struct words *words)
{
    char **at = words->arguments;
    if (!*at)
        return 0;
    while (*++at) {
        if ((*at)[0] == '-' && (*at)[1]) {
            at = take(words, at);
            if (!at)
                return 0;
        } else if (!words->verb)
            words->verb = *at;
        else if (!words->id)
            words->id = *at;
        else
            return 0;
    }
    if (!words->verb || !words->id || !is_id(words->id))
        return 0;
    if (!words->root)
        words->root = "/run/asyncrt-oci";
    return is_plain_path(words->root) && (!words->bundle || is_plain_path(words->bundle)) &&
           (!words->pid_file || is_plain_path(words->pid_file)) && !variable(words, "LISTEN_FDS") &&
           !variable(words, "NOTIFY_SOCKET") && open_log(words->log);
}
