#include "es_stats.h"

#include "es_clock.h"

#include <stddef.h>

/* Changes with whatever moves a counter: what has room where a stripe is aligned does
 * not change the size. */
#define LAYOUT                                                                          \
    (UINT64_C(0x4553) << 48 | (uint64_t) ES_DECISIONS << 40 | (uint64_t) ES_DROPS << 32 \
     | (uint64_t) ES_KEEPS << 24 | sizeof(es_stats_t))

_Static_assert(sizeof(es_stats_t) < 1 << 24, "a layout has 24 bits for it");

size_t
es_stats_area_size(void)
{
    return sizeof(es_stats_t);
}

bool
es_stats_area_fits(const void *stats_area)
{
    const es_stats_t *stats = stats_area;
    uint64_t layout = es_stats_get(&stats->layout);

    return layout == 0 || layout == LAYOUT;
}

bool
es_stats_open(es_stats_t *stats)
{
    if (!es_stats_area_fits(stats)) {
        return false;
    }
    if (es_stats_get(&stats->layout) == 0) {
        atomic_store(&stats->started_ns, es_wall_ns());
        atomic_store(&stats->layout, LAYOUT);
    }
    return true;
}

/* --------------------------------------------------------------- drops --- */

static const struct {
    const char *name, *token;
} drops[ES_DROPS] = {
    [ES_DROP_QUEUE_FULL] = {"queue full", "queue_full"},
    [ES_DROP_LAGGING] = {"exporter too slow", "exporter_too_slow"},
    [ES_DROP_REJECTED] = {"rejected by the collector", "rejected"},
    [ES_DROP_CORRUPT] = {"corrupt record", "corrupt_record"},
    [ES_DROP_POISON] = {"exporter processes died", "exporter_died"},
    [ES_DROP_SHUTDOWN] = {"not delivered before the shutdown timeout", "shutdown_timeout"},
    [ES_DROP_SPOOL_FULL] = {"spool full", "spool_full"},
    [ES_DROP_SPOOL_TORN] = {"corrupt in the spool", "spool_corrupt"},
};

const char *
es_drop_name(es_drop_t reason)
{
    return drops[reason].name;
}

const char *
es_drop_token(es_drop_t reason)
{
    return drops[reason].token;
}

uint64_t
es_stats_dropped(const es_stats_t *stats, es_drop_t reason)
{
    uint64_t sum = 0;

    for (unsigned i = 0; i < ES_STRIPES; i++) {
        sum += es_stats_get(&stats->stripes[i].dropped[reason]);
    }
    for (unsigned i = 0; i < ES_EXPORTERS_MAX; i++) {
        sum += es_stats_get(&stats->exporters[i].dropped[reason]);
    }
    return sum;
}

/* ---------------------------------------------------------- last error --- */

#define WORDS (ES_LAST_ERROR_SIZE / sizeof(uint64_t))

static uint64_t
check_of(uint64_t time_ns, const uint64_t words[WORDS])
{
    uint64_t check = time_ns;

    for (size_t i = 0; i < WORDS; i++) {
        check = (check ^ words[i]) * UINT64_C(0x100000001b3); /* as FNV does */
        check ^= check >> 29;
    }
    return check;
}

void
es_last_error_set(es_last_error_t *error, const char *text)
{
    uint64_t words[WORDS] = {0}, time_ns = es_wall_ns();
    size_t len = strlen(text);

    memcpy(words, text, len < sizeof(words) - 1 ? len : sizeof(words) - 1);
    atomic_store_explicit(&error->time_ns, time_ns, memory_order_relaxed);
    for (size_t i = 0; i < WORDS; i++) {
        atomic_store_explicit(&error->text[i], words[i], memory_order_relaxed);
    }
    atomic_store_explicit(&error->check, check_of(time_ns, words), memory_order_relaxed);
}

bool
es_last_error_get(const es_last_error_t *error, uint64_t *time_ns, char text[ES_LAST_ERROR_SIZE])
{
    uint64_t words[WORDS];

    *time_ns = es_stats_get(&error->time_ns);
    for (size_t i = 0; i < WORDS; i++) {
        words[i] = es_stats_get(&error->text[i]);
    }
    if (*time_ns == 0 || es_stats_get(&error->check) != check_of(*time_ns, words)) {
        return false;
    }
    memcpy(text, words, sizeof(words));
    text[sizeof(words) - 1] = '\0';
    return true;
}

/* ---------------------------------------------------------------- log --- */

#define LOG_PERIOD (60 * ES_SECOND)

bool
es_log_limit_take(es_log_limit_t *limit)
{
    uint64_t now = es_mono_ns(), last = es_stats_get(&limit->logged_at);

    return (last == 0 || now - last >= LOG_PERIOD)
           && atomic_compare_exchange_strong(&limit->logged_at, &last, now);
}
