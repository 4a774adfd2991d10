#include "es_failover.h"

void
es_failover_init(es_failover_t *failover, unsigned targets)
{
    *failover = (es_failover_t){.targets = targets};
}

unsigned
es_failover_choose(es_failover_t *failover, uint64_t now)
{
    if (failover->current != 0 && !failover->asking_home && now >= failover->ask_home_at) {
        failover->asking_home = true;
        return 0;
    }
    return failover->current;
}

bool
es_failover_result(es_failover_t *failover, unsigned target, bool answered, uint64_t now)
{
    if (target == 0) {
        failover->asking_home = false;
        failover->ask_home_at = now + ES_FAILOVER_HOME_AFTER_NS;
    }
    if (answered) {
        if (target == 0) {
            failover->current = 0;
        }
        if (target == failover->current) {
            failover->failures = 0;
        }
        return true;
    }

    /* An answer of one that is not in use any more says nothing new. */
    if (target != failover->current) {
        return true;
    }
    failover->failures++;
    failover->current = (target + 1) % failover->targets;
    return failover->failures % failover->targets != 0;
}
