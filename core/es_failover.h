/* es_failover.h: which of an exporter's endpoints a batch goes to.
 *
 * The first is home. When the one in use fails, the next is taken; while away,
 * home is asked by one batch now and then, and gets them all again once it took
 * that one. With a single endpoint nothing of this ever happens. */

#ifndef ES_FAILOVER_H
#define ES_FAILOVER_H

#include <stdbool.h>
#include <stdint.h>

/* How long home is left alone after it failed. */
#define ES_FAILOVER_HOME_AFTER_NS UINT64_C(10000000000)

typedef struct es_failover {
    unsigned targets;
    unsigned current;
    unsigned failures; /* in a row, of those in use */
    bool asking_home;
    uint64_t ask_home_at;
} es_failover_t;

void es_failover_init(es_failover_t *failover, unsigned targets);

/* Where the next batch goes. */
unsigned es_failover_choose(es_failover_t *failover, uint64_t now);

/* What came of a batch sent to `target`. A refusal of the batch is an answer; the
 * wish to be asked later is none, as long as others may take it now. False: every
 * target has failed, one after the other; it is time to wait. */
bool es_failover_result(es_failover_t *failover, unsigned target, bool answered, uint64_t now);

#endif
