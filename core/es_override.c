#include "es_override.h"

#include "es_clock.h"
#include "es_provider.h"
#include "es_str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define FILE_MAX ((size_t) 64 << 10)
#define PERIOD ES_SECOND

/* A file that changed so shortly ago is perhaps still being written. */
#define SETTLING (100 * ES_MS)

_Static_assert(sizeof(es_override_entry_t) == ES_OVERRIDE_WORDS * sizeof(uint64_t),
               "an entry is made of words");

bool
es_config_override(es_config_t *config, es_str_t path, es_error_t *error)
{
    if (config->override != NULL) {
        return es_fail(error, "is given already");
    }
    if (path.len == 0) {
        return es_fail(error, "invalid path \"\": it names the override file");
    }
    config->override = es_config_path(config, path);
    return config->override != NULL || es_fail(error, "no memory");
}

/* --------------------------------------------------------------- table --- */

/* `current` is one word, so that both change at once: how often a table was
 * published, whose last bit chooses one of the two, and the number of entries. */
enum { COUNT_BITS = 8 };

static unsigned
count_of(uint64_t current)
{
    unsigned count = (unsigned) (current & ((1u << COUNT_BITS) - 1));

    return count < ES_OVERRIDE_MAX ? count : ES_OVERRIDE_MAX;
}

static uint64_t
number_of(uint64_t current)
{
    return current >> COUNT_BITS;
}

size_t
es_override_area_size(const es_config_t *config)
{
    return config->override != NULL ? sizeof(es_override_shared_t) : 0;
}

es_override_shared_t *
es_override_open(const es_config_t *config, void *area)
{
    es_override_shared_t *shared = area;

    if (config->override == NULL) {
        return NULL;
    }
    memset(shared, 0, offsetof(es_override_shared_t, tables));
    return shared;
}

/* Release and acquire for every word: a reader that got a word of the next table
 * but one has to see that another is in force by now. */

static void
store_entry(es_override_words_t *to, const es_override_entry_t *entry)
{
    uint64_t words[ES_OVERRIDE_WORDS];

    memcpy(words, entry, sizeof(words));
    for (size_t i = 0; i < ES_OVERRIDE_WORDS; i++) {
        atomic_store_explicit(&to->words[i], words[i], memory_order_release);
    }
}

static uint64_t
load_word(const es_override_words_t *from, size_t offset)
{
    return atomic_load_explicit(&from->words[offset / sizeof(uint64_t)], memory_order_acquire);
}

static void
load_words(const es_override_words_t *from, es_override_entry_t *entry, size_t offset, size_t size)
{
    for (size_t i = offset; i < offset + size; i += sizeof(uint64_t)) {
        uint64_t word = load_word(from, i);

        memcpy((uint8_t *) entry + i, &word, sizeof(word));
    }
}

void
es_override_publish(es_override_shared_t *shared, const es_override_t *override)
{
    uint64_t number = number_of(atomic_load(&shared->current)) + 1;

    for (unsigned i = 0; i < override->count; i++) {
        store_entry(&shared->tables[number & 1][i], &override->entries[i]);
    }
    atomic_store(&shared->current, number << COUNT_BITS | override->count);
}

void
es_override_read(const es_override_shared_t *shared, es_override_t *override)
{
    for (unsigned tries = 0; tries < 2; tries++) {
        uint64_t current = atomic_load_explicit(&shared->current, memory_order_acquire);

        override->count = count_of(current);
        for (unsigned i = 0; i < override->count; i++) {
            es_override_entry_t *entry = &override->entries[i];

            load_words(&shared->tables[number_of(current) & 1][i], entry, 0, sizeof(*entry));
        }
        if (atomic_load_explicit(&shared->current, memory_order_relaxed) == current) {
            return;
        }
    }
    override->count = 0;
}

/* Word by word, and the length first: most entries are others'. */
static bool
is_below(const es_override_words_t *words, es_override_entry_t *entry, es_str_t path)
{
    uint64_t word;

    load_words(words, entry, offsetof(es_override_entry_t, line), sizeof(uint64_t));
    if (entry->length > ES_OVERRIDE_PATH_MAX || entry->length > path.len
        || (entry->length != 0 && entry->length < path.len && path.data[entry->length] != '/')) {
        return false;
    }
    for (size_t at = 0; at < entry->length; at += sizeof(word)) {
        size_t left = entry->length - at;

        if (left >= sizeof(word)) { /* a length that the compiler knows */
            memcpy(&word, path.data + at, sizeof(word));
        } else {
            word = 0;
            memcpy(&word, path.data + at, left);
        }
        if (word != load_word(words, offsetof(es_override_entry_t, path) + at)) {
            return false;
        }
    }
    return true;
}

static bool
matches(const es_override_words_t *words, es_override_entry_t *entry, es_str_t path,
        uint64_t now_wall_ns)
{
    if (!is_below(words, entry, path)) {
        return false;
    }
    load_words(words, entry, 0, offsetof(es_override_entry_t, line));
    return entry->until_ns > now_wall_ns;
}

bool
es_override_find(const es_generation_t *generation, es_str_t path, uint64_t now_wall_ns,
                 uint64_t *threshold, unsigned *line)
{
    const es_override_shared_t *shared = generation->override;
    es_override_entry_t entry;

    if (shared == NULL
        || count_of(atomic_load_explicit(&shared->current, memory_order_relaxed)) == 0) {
        return false;
    }
    for (unsigned tries = 0; tries < 2; tries++) {
        uint64_t current = atomic_load_explicit(&shared->current, memory_order_acquire);
        const es_override_words_t *table = shared->tables[number_of(current) & 1];
        unsigned i = 0, count = count_of(current);

        while (i < count && !matches(&table[i], &entry, path, now_wall_ns)) {
            i++;
        }
        if (atomic_load_explicit(&shared->current, memory_order_relaxed) != current) {
            continue;
        }
        if (i < count) {
            *threshold = entry.threshold;
            *line = entry.line;
        }
        return i < count;
    }
    return false;
}

/* ---------------------------------------------------------------- file --- */

/* What it takes to be the same file with the same content; never 0. */
static uint64_t
identity_of(const struct stat *status)
{
    const uint64_t facts[] = {
        (uint64_t) status->st_dev,          (uint64_t) status->st_ino,
        (uint64_t) status->st_size,         (uint64_t) status->st_mtim.tv_sec,
        (uint64_t) status->st_mtim.tv_nsec,
    };
    uint64_t identity = 0;

    for (size_t i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
        identity = (identity ^ facts[i]) * UINT64_C(0x9e3779b97f4a7c15);
        identity ^= identity >> 32;
    }
    return identity | 1;
}

static uint64_t
mtime_of(const struct stat *status)
{
    return (uint64_t) status->st_mtim.tv_sec * ES_SECOND + (uint64_t) status->st_mtim.tv_nsec;
}

static void
drop_expired(es_override_t *override, uint64_t now_wall_ns)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < override->count; i++) {
        if (override->entries[i].until_ns > now_wall_ns) {
            override->entries[kept++] = override->entries[i];
        }
    }
    override->count = kept;
}

static bool
is_same(const es_override_t *one, const es_override_t *other)
{
    return one->count == other->count
           && memcmp(one->entries, other->entries, one->count * sizeof(one->entries[0])) == 0;
}

static const char *
noun(unsigned count)
{
    return count == 1 ? "entry" : "entries";
}

static void
log_in_force(const es_provider_t *provider, const es_override_t *override)
{
    uint64_t last_ns = 0;
    char until[64] = "";
    struct tm tm;
    time_t last;

    for (unsigned i = 0; i < override->count; i++) {
        uint64_t until_ns = override->entries[i].until_ns;

        last_ns = until_ns > last_ns ? until_ns : last_ns;
    }
    last = (time_t) (last_ns / ES_SECOND);
    if (localtime_r(&last, &tm) != NULL) {
        strftime(until, sizeof(until), "%Y-%m-%dT%H:%M:%S%z", &tm);
    }
    es_provider_log(provider, ES_LOG_NOTICE, "override: %u %s of %s, until %s%s", override->count,
                    noun(override->count), provider->generation->config->override, until,
                    override->count > 1 ? " at the latest" : "");
}

/* Readers pass over what has expired; this is for the log and the status. */
static void
expire(const es_provider_t *provider, es_override_t *in_force, uint64_t now_wall_ns)
{
    unsigned before = in_force->count;

    drop_expired(in_force, now_wall_ns);
    if (in_force->count != before) {
        es_override_publish(provider->generation->override, in_force);
        es_provider_log(provider, ES_LOG_NOTICE, "override: %u %s of %s expired, %u left",
                        before - in_force->count, noun(before - in_force->count),
                        provider->generation->config->override, in_force->count);
    }
}

static void
log_unreadable(const es_provider_t *provider, const char *text)
{
    if (es_log_limit_take(&provider->generation->override->unreadable)) {
        es_provider_log(provider, ES_LOG_WARN, "override: %s", text);
    }
}

/* The user matters: the parent may be another. */
static void
no_access(const es_provider_t *provider, const char *path)
{
    es_error_t error;

    es_fail(&error, "%.256s cannot be read by user id %u: %s", path, (unsigned) geteuid(),
            strerror(errno));
    log_unreadable(provider, error.text);
}

static void
gone(const es_provider_t *provider, es_override_t *in_force)
{
    es_override_shared_t *shared = provider->generation->override;
    unsigned ended = in_force->count;

    atomic_store(&shared->told, 0);
    if (ended != 0) {
        in_force->count = 0;
        es_override_publish(shared, in_force);
        es_provider_log(provider, ES_LOG_NOTICE, "override: %s is gone, its %u %s ended",
                        provider->generation->config->override, ended, noun(ended));
    }
}

/* A leader reads what another has read already: it says only what is new. */
static void
take(const es_provider_t *provider, es_str_t text, const struct stat *status,
     const es_override_t *in_force, uint64_t now_wall_ns)
{
    es_override_shared_t *shared = provider->generation->override;
    const char *path = provider->generation->config->override;
    bool told = atomic_exchange(&shared->told, identity_of(status)) == identity_of(status);
    es_override_t override;
    es_error_t error;
    uint64_t written_ns = mtime_of(status);
    unsigned line, given;
    bool changed;

    /* A time to come is that of a wrong clock: nothing lasts until then. */
    if (written_ns > now_wall_ns) {
        written_ns = now_wall_ns;
    }
    if (!es_override_parse(text, written_ns, &override, &line, &error)) {
        if (!told) {
            es_provider_log(provider, ES_LOG_WARN,
                            "override: %s:%u: %s; nothing of the file counts (in force: %u %s)",
                            path, line, error.text, in_force->count, noun(in_force->count));
        }
        return;
    }
    given = override.count;
    drop_expired(&override, now_wall_ns);
    changed = !is_same(&override, in_force);
    if (changed) {
        es_override_publish(shared, &override);
    }
    if (told && !changed) {
        return;
    }
    if (override.count != 0) {
        log_in_force(provider, &override);
    } else if (given != 0) {
        es_provider_log(provider, ES_LOG_NOTICE, "override: all of %s has expired", path);
    } else if (changed) {
        es_provider_log(provider, ES_LOG_NOTICE, "override: %s has no entry any more", path);
    }
}

static void
read_file(es_override_watch_t *watch, const es_provider_t *provider, es_override_t *in_force,
          uint64_t now_wall_ns)
{
    const char *path = provider->generation->config->override;
    struct stat before, after;
    es_buffer_t text;
    es_error_t error;
    bool ok;

    if (stat(path, &before) != 0) {
        watch->seen = 0;
        if (errno == ENOENT || errno == ENOTDIR) {
            gone(provider, in_force);
        } else {
            no_access(provider, path);
        }
        return;
    }
    if (identity_of(&before) == watch->seen) {
        return;
    }
    if (mtime_of(&before) <= now_wall_ns && now_wall_ns - mtime_of(&before) < SETTLING) {
        watch->look_at = es_mono_ns() + SETTLING;
        return;
    }
    watch->seen = 0;
    if (faccessat(AT_FDCWD, path, R_OK, AT_EACCESS) != 0) {
        no_access(provider, path);
        return;
    }
    ok = es_file_read(path, FILE_MAX, &text, &error);
    if (stat(path, &after) != 0 || identity_of(&after) != identity_of(&before)) {
        es_buffer_free(&text); /* the next look sees another file */
        return;
    }
    if (!ok) {
        log_unreadable(provider, error.text);
        return;
    }
    watch->seen = identity_of(&before);
    take(provider, es_str(text.data, text.size), &before, in_force, now_wall_ns);
    es_buffer_free(&text);
}

void
es_override_look(es_override_watch_t *watch, const es_provider_t *provider)
{
    uint64_t now_wall_ns = es_wall_ns();
    es_override_t in_force;

    if (es_mono_ns() < es_override_due(watch, provider)) {
        return;
    }
    watch->look_at = es_mono_ns() + PERIOD;
    es_override_read(provider->generation->override, &in_force);
    expire(provider, &in_force, now_wall_ns);
    read_file(watch, provider, &in_force, now_wall_ns);
}

uint64_t
es_override_due(const es_override_watch_t *watch, const es_provider_t *provider)
{
    return provider->generation->override != NULL ? watch->look_at : UINT64_MAX;
}
