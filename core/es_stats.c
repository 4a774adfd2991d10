#include "es_stats.h"

const char *
es_drop_name(es_drop_t reason)
{
    static const char *const names[ES_DROPS] = {
        [ES_DROP_QUEUE_FULL] = "queue full",
        [ES_DROP_LAGGING] = "exporter too slow",
        [ES_DROP_REJECTED] = "rejected by the collector",
        [ES_DROP_CORRUPT] = "corrupt record",
        [ES_DROP_POISON] = "exporter processes died",
        [ES_DROP_SHUTDOWN] = "not delivered before the shutdown timeout",
        [ES_DROP_SPOOL_FULL] = "spool full",
        [ES_DROP_SPOOL_TORN] = "corrupt in the spool",
    };

    return names[reason];
}

uint64_t
es_stats_dropped(const es_stats_t *stats, es_drop_t reason)
{
    uint64_t sum = atomic_load(&stats->dropped[reason]);

    for (unsigned i = 0; i < ES_EXPORTERS_MAX; i++) {
        sum += atomic_load(&stats->exporters[i].dropped[reason]);
    }
    return sum;
}

size_t
es_stats_area_size(void)
{
    return sizeof(es_stats_t);
}
