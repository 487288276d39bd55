/* A shim's first moments, from its Spawn to its first event, without an interpreter: a page that Python touches is a
 * page of memory for each container. starting.py lays the structs out and takes over; what is refused here (a packet that
 * looks unusual, a call that fails) is done again by shimd.server.delivery, which has the words for it.
 */
#include "../linux/script.h"

#define WRITE 1
#define CLOSE 3
#define RECVMSG 47
#define GETPID 39
#define CLOCK_REALTIME 0
#define MSG_CMSG_CLOEXEC 0x40000000
#define MSG_CUT 0x28 /* MSG_TRUNC | MSG_CTRUNC */
#define SOL_SOCKET 1
#define SCM_RIGHTS 1
#define AT_FDCWD (-100)
#define AT_EMPTY_PATH 0x1000
#define CLONE_VM 0x100
#define CLONE_PIDFD 0x1000
#define CLONE_INTO_CGROUP 0x200000000
#define STRING_BYTES 255 /* the longest that fsconfig takes */
#define MANY 256
#define SPAWN 6   /* numbers of shimd.wire.messages */
#define STARTED 10
#define EXECUTING 1

enum outcome { HAPPENED = 0, OVER = 1, UNKNOWN = 2, REFUSED = 3 };

struct text {
    const char *at;
    int64_t bytes;
};

/* A path that lacks the container's cgroup in its middle. */
struct around {
    struct text before, after;
};

struct bind {
    struct text path;
    int64_t flags;
};

struct name {
    struct text name;
    int64_t cell;
};

/* A template, and the one container that this process makes of it. */
struct start {
    struct text key;
    struct run prepare, init, after; /* ours, the child's, ours again */
    int64_t clone_flags;
    char *strings, *strings_end;
    const struct around *paths;
    int64_t path_count;
    const struct bind *binds;
    int64_t bind_count;
    const struct name *names; /* of the template's environment */
    int64_t name_count;
    int64_t spare, spare_count; /* empty places in it */
    int64_t cgroup, listener, stdin, stdout, stderr; /* cells */
    int64_t stamps[4];
    int64_t appends, fd_layers; /* what this kernel's overlay can */
    int64_t layers;             /* how many fit */
    /* and what came of it */
    int64_t pid, pidfd, started_ns, received_ns;
};

struct spawn {
    struct text id, template, hostname, cgroup, kind, upper, work;
    struct text env[MANY], lower[MANY], trees[MANY];
    int64_t env_count, lower_count, tree_count, sent_ns;
};

struct shim {
    struct start *const *starts;
    int64_t start_count;
    char *packet;
    int64_t packet_room;
    struct text shims; /* the path sockets' directory, with a slash */
    int32_t *fds;      /* MANY of them */
    /* and what came of it */
    int64_t chosen, packet_bytes, fd_count;
};

static int same(struct text a, struct text b)
{
    if (a.bytes != b.bytes)
        return 0;
    for (int64_t i = 0; i < a.bytes; i++)
        if (a.at[i] != b.at[i])
            return 0;
    return 1;
}

/* Is it a variable of this name? */
static int named(struct text entry, struct text name)
{
    if (entry.bytes <= name.bytes || entry.at[name.bytes] != '=')
        return 0;
    entry.bytes = name.bytes;
    return same(entry, name);
}

/* msgpack: each takes one value, or makes `end` null when there is another. */

struct reader {
    const unsigned char *at, *end;
};

static uint64_t number(struct reader *in, int bytes)
{
    uint64_t value = 0;
    if (!in->end || in->end - in->at < bytes) {
        in->end = 0;
        return 0;
    }
    while (bytes--)
        value = value << 8 | *in->at++;
    return value;
}

static uint64_t take_integer(struct reader *in)
{
    uint64_t first = number(in, 1);
    if (first < 0x80)
        return first;
    if (first >= 0xcc && first <= 0xcf)
        return number(in, 1 << (first - 0xcc));
    in->end = 0;
    return 0;
}

/* Is it UTF-8 without a NUL, which would end the path early? messages.decode takes nothing else, and what it would refuse
 * when the container runs already must not be started. */
static int proper(struct text text)
{
    const unsigned char *at = (const unsigned char *)text.at, *end = at + text.bytes;
    while (at < end) {
        unsigned first = *at++, low = 0x80, high = 0xbf;
        int more = first < 0x80 ? 0 : first < 0xe0 ? 1 : first < 0xf0 ? 2 : 3;
        if (!first || (first >= 0x80 && first < 0xc2) || first > 0xf4 || end - at < more)
            return 0;
        if (first == 0xe0)
            low = 0xa0; /* no longer than need be */
        if (first == 0xed)
            high = 0x9f; /* no surrogates */
        if (first == 0xf0)
            low = 0x90;
        if (first == 0xf4)
            high = 0x8f; /* the last plane */
        for (; more--; low = 0x80, high = 0xbf, at++)
            if (*at < low || *at > high)
                return 0;
    }
    return 1;
}

static struct text take_text(struct reader *in)
{
    struct text text = {0, 0};
    uint64_t first = number(in, 1);
    if (first >= 0xa0 && first < 0xc0)
        text.bytes = first - 0xa0;
    else if (first >= 0xd9 && first <= 0xdb)
        text.bytes = number(in, 1 << (first - 0xd9));
    else
        in->end = 0;
    if (!in->end || in->end - in->at < text.bytes) {
        in->end = 0;
        text.bytes = 0;
        return text;
    }
    text.at = (const char *)in->at;
    in->at += text.bytes;
    if (!proper(text))
        in->end = 0;
    return text;
}

static int64_t take_array(struct reader *in)
{
    uint64_t first = number(in, 1);
    if (first >= 0x90 && first < 0xa0)
        return first - 0x90;
    if (first == 0xdc)
        return number(in, 2);
    in->end = 0;
    return 0;
}

static int64_t take_texts(struct reader *in, struct text *texts)
{
    int64_t count = take_array(in);
    if (count > MANY)
        in->end = 0;
    for (int64_t i = 0; in->end && i < count; i++)
        texts[i] = take_text(in);
    return count;
}

static int take_bool(struct reader *in)
{
    uint64_t first = number(in, 1);
    if (first != 0xc2 && first != 0xc3)
        in->end = 0;
    return first == 0xc3;
}

/* The fields of shimd.wire.messages.Spawn in their order; 0 if it is not just that. */
static int read_spawn(struct spawn *spawn, const char *packet, int64_t bytes)
{
    struct reader in = {(const unsigned char *)packet, (const unsigned char *)packet + bytes};
    if (take_array(&in) != 10 || take_integer(&in) != SPAWN)
        return 0;
    spawn->id = take_text(&in);
    spawn->template = take_text(&in);
    spawn->hostname = take_text(&in);
    spawn->env_count = take_texts(&in, spawn->env);
    if (take_array(&in) != 1 || take_array(&in) != 5) /* one RootMount */
        return 0;
    spawn->kind = take_text(&in);
    spawn->lower_count = take_texts(&in, spawn->lower);
    spawn->upper = take_text(&in);
    spawn->work = take_text(&in);
    take_bool(&in);
    spawn->cgroup = take_text(&in);
    take_text(&in); /* directory */
    spawn->tree_count = take_texts(&in, spawn->trees);
    spawn->sent_ns = take_integer(&in);
    return in.end && in.at == in.end;
}

/* The packet and its fds; -1 if there is none. */
static long receive(struct shim *shim, int socket)
{
    struct {
        int64_t length;
        int32_t level, kind;
        int32_t fds[MANY];
    } rights;
    struct {
        void *at;
        int64_t bytes;
    } part = {shim->packet, shim->packet_room};
    struct {
        void *name;
        int64_t name_bytes;
        void *parts;
        int64_t part_count;
        void *control;
        int64_t control_bytes;
        int64_t flags;
    } message = {0, 0, &part, 1, &rights, sizeof rights, 0};
    long bytes = call(RECVMSG, socket, (int64_t)&message, MSG_CMSG_CLOEXEC, 0, 0, 0);
    shim->fd_count = 0;
    if (bytes <= 0 || message.flags & MSG_CUT)
        return -1;
    if (message.control_bytes && rights.level == SOL_SOCKET && rights.kind == SCM_RIGHTS)
        shim->fd_count = (rights.length - 16) / 4;
    for (int64_t i = 0; i < shim->fd_count; i++)
        shim->fds[i] = rights.fds[i];
    shim->packet_bytes = bytes;
    return bytes;
}

/* Strings of this container's own; `full` when there is no room for one. */

struct writer {
    char *at, *end;
    int full;
};

static void put(struct writer *out, struct text text)
{
    if (out->end - out->at < text.bytes + 1) {
        out->full = 1;
        return;
    }
    for (int64_t i = 0; i < text.bytes; i++)
        *out->at++ = text.at[i];
}

static int64_t joined(struct writer *out, struct text a, struct text b, struct text c)
{
    char *start = out->at;
    put(out, a);
    put(out, b);
    put(out, c);
    if (!out->full)
        *out->at++ = 0;
    return (int64_t)start;
}

#define TEXT(string) ((struct text){string, sizeof(string) - 1})
#define NOTHING ((struct text){"", 0})

static int tree_of(const struct spawn *spawn, const struct shim *shim, struct text path)
{
    for (int64_t i = 0; i < spawn->tree_count; i++)
        if (same(spawn->trees[i], path))
            return shim->fds[1 + i];
    return 0;
}

/* Three cells for open_tree: by the fd that came along, or by path. */
static int64_t *point(int64_t *cell, struct writer *out, const struct spawn *spawn, const struct shim *shim,
                      struct text path, int64_t flags)
{
    int tree = tree_of(spawn, shim, path);
    *cell++ = tree ? tree : AT_FDCWD;
    *cell++ = joined(out, tree ? NOTHING : path, NOTHING, NOTHING);
    *cell++ = tree ? flags | AT_EMPTY_PATH : flags;
    return cell;
}

#define OPEN_TREE 0x88001 /* OPEN_TREE_CLONE | O_CLOEXEC | AT_RECURSIVE */

/* Fill the cells that lie side by side from cell 1 on, in the order of scripting.Own; 0 if this one is unusual. */
static int fill(struct start *start, const struct shim *shim, const struct spawn *spawn)
{
    struct writer out = {start->strings, start->strings_end, 0};
    int64_t *cell = start->prepare.cells + 1;
    int overlay = same(spawn->kind, TEXT("overlay"));
    char *address = out.at;
    struct text id = spawn->id, digits = {id.at, id.bytes < 10 ? id.bytes : 10};
    if (out.end - out.at < 256)
        return 0;
    *out.at++ = 1; /* AF_UNIX, and sun_path */
    *out.at++ = 0;
    joined(&out, shim->shims, id, TEXT(".sock"));
    *cell++ = (int64_t)address;
    *cell++ = out.at - address;
    *cell++ = shim->fds[0];
    *cell++ = joined(&out, TEXT("shim:"), digits, NOTHING);
    *cell++ = joined(&out, TEXT("_ses."), id, NOTHING);
    *cell++ = spawn->hostname.bytes ? joined(&out, spawn->hostname, NOTHING, NOTHING) : 0;
    *cell++ = spawn->hostname.bytes;
    *cell++ = overlay;
    *cell++ = spawn->upper.bytes ? joined(&out, spawn->upper, NOTHING, NOTHING) : 0;
    *cell++ = joined(&out, spawn->work, NOTHING, NOTHING);
    if (!overlay && spawn->lower_count != 1)
        return 0;
    cell = point(cell, &out, spawn, shim, overlay ? NOTHING : spawn->lower[0], OPEN_TREE);
    for (int64_t i = 0; i < start->bind_count; i++)
        cell = point(cell, &out, spawn, shim, start->binds[i].path, start->binds[i].flags);
    for (int64_t i = 0; i < start->path_count; i++)
        *cell++ = joined(&out, start->paths[i].before, spawn->cgroup, start->paths[i].after);
    if (overlay) {
        if (!start->appends || spawn->lower_count > start->layers || spawn->upper.bytes > STRING_BYTES ||
            spawn->work.bytes > STRING_BYTES)
            return 0;
        for (int64_t i = 0; i < spawn->lower_count; i++) {
            int tree = tree_of(spawn, shim, spawn->lower[i]);
            if (spawn->lower[i].bytes > STRING_BYTES || (tree && !start->fd_layers))
                return 0;
            *cell++ = joined(&out, spawn->lower[i], NOTHING, NOTHING);
            *cell++ = tree;
        }
    }
    int64_t spare = start->spare, last = start->spare + start->spare_count;
    for (int64_t i = 0; i < spawn->env_count; i++) {
        struct text entry = spawn->env[i], name = entry;
        int64_t place = -1;
        for (name.bytes = 0; name.bytes < entry.bytes && entry.at[name.bytes] != '='; name.bytes++)
            ;
        if (name.bytes == entry.bytes || same(name, TEXT("PATH"))) /* the program was sought by the template's PATH */
            return 0;
        for (int64_t known = 0; known < start->name_count; known++)
            if (same(start->names[known].name, name))
                place = start->names[known].cell;
        for (int64_t before = 0; before < i; before++)
            if (named(spawn->env[before], name)) /* the last one counts; to find its place is left to the reference */
                return 0;
        if (place < 0 && spare == last)
            return 0;
        start->prepare.cells[place < 0 ? spare++ : place] = joined(&out, entry, NOTHING, NOTHING);
    }
    return !out.full;
}

static int64_t now(int clock)
{
    int64_t time[2] = {0, 0};
    call(CLOCK_GETTIME, clock, (int64_t)time, 0, 0, 0, 0);
    return time[0] * 1000000000 + time[1];
}

static int bear(struct start *start)
{
    uint64_t arguments[11] = {0}; /* struct clone_args */
    int64_t cgroup = start->prepare.cells[start->cgroup];
    int32_t pidfd = -1;
    arguments[0] = start->clone_flags | CLONE_VM | CLONE_PIDFD | (cgroup ? CLONE_INTO_CGROUP : 0);
    arguments[1] = (uint64_t)&pidfd;
    arguments[4] = SIGCHLD;
    arguments[10] = cgroup;
    start->pid = script_bear(arguments, sizeof arguments, &start->init);
    start->pidfd = pidfd;
    return start->pid > 0;
}

static unsigned char *put_number(unsigned char *at, uint64_t value)
{
    *at++ = 0xcf;
    for (int shift = 56; shift >= 0; shift -= 8)
        *at++ = value >> shift;
    return at;
}

static unsigned char *put_phase(unsigned char *at, struct text phase, int64_t value)
{
    *at++ = 0x92;
    *at++ = 0xa0 | phase.bytes;
    for (int64_t i = 0; i < phase.bytes; i++)
        *at++ = phase.at[i];
    return put_number(at, value);
}

/* Started, to the supervisor; if it died just now, the next one asks. */
static void tell(const struct start *start, const struct spawn *spawn, int line)
{
    unsigned char packet[256], *at = packet;
    const int64_t *cells = start->prepare.cells;
    *at++ = 0x95;
    *at++ = STARTED;
    at = put_number(at, start->pid);
    at = put_number(at, call(GETPID, 0, 0, 0, 0, 0, 0));
    at = put_number(at, start->started_ns);
    *at++ = 0x96;
    at = put_phase(at, TEXT("queue"), spawn->sent_ns);
    at = put_phase(at, TEXT("zygote"), start->received_ns);
    at = put_phase(at, TEXT("cgroup"), cells[start->stamps[0]]);
    at = put_phase(at, TEXT("namespaces"), cells[start->stamps[1]]);
    at = put_phase(at, TEXT("mounts"), cells[start->stamps[2]]);
    at = put_phase(at, TEXT("exec"), cells[start->stamps[3]]);
    call(WRITE, line, (int64_t)packet, at - packet, 0, 0, 0);
}

/* Until something happens for the first time; what is readable stays so. */
static void idle(const struct start *start, int line)
{
    const int64_t *cells = start->prepare.cells;
    struct pollfd fds[5] = {{line, POLLIN, 0},
                            {cells[start->listener], POLLIN, 0},
                            {start->pidfd, POLLIN, 0},
                            {cells[start->stdout], POLLIN, 0},
                            {cells[start->stderr], POLLIN, 0}};
    while (call(POLL, (int64_t)fds, 5, -1, 0, 0, 0) < 0)
        ;
}

/* HAPPENED: the container runs, and there is something to do. OVER: there is no supervisor. UNKNOWN: the packet and
 * its fds are here, and no template for them. REFUSED: likewise, and `chosen` tells how far it came. */
EXPORT long start_shim(struct shim *shim, int spawns)
{
    static struct spawn spawn;
    struct start *start;
    shim->chosen = -1;
    if (receive(shim, spawns) < 0)
        return OVER;
    if (!read_spawn(&spawn, shim->packet, shim->packet_bytes) || shim->fd_count != 1 + spawn.tree_count)
        return UNKNOWN;
    for (int64_t i = 0; i < shim->start_count; i++)
        if (same(shim->starts[i]->key, spawn.template))
            shim->chosen = i;
    if (shim->chosen < 0)
        return UNKNOWN;
    start = shim->starts[shim->chosen];
    start->received_ns = now(MONOTONIC);
    if (!fill(start, shim, &spawn))
        return UNKNOWN;
    if (script_run(&start->prepare) || !bear(start) || script_run(&start->after) || start->init.state != EXECUTING)
        return REFUSED;
    start->started_ns = now(CLOCK_REALTIME);
    tell(start, &spawn, shim->fds[0]);
    /* What nobody reads any more must not be kept by who sleeps: once the zygote is dead it is to be told as lost. */
    call(CLOSE, spawns, 0, 0, 0, 0, 0);
    idle(start, shim->fds[0]);
    return HAPPENED;
}
