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
    };

    return names[reason];
}

size_t
es_stats_area_size(void)
{
    return sizeof(es_stats_t);
}
