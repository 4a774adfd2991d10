/* A combined tracestate behind a line with a sampling rate: what is legal is legal
 * member by member, and stays so with our own `th` in it. */

#include "fuzz_server.h"

#include "es_tracestate.h"

/* Takes the next member that is not empty; false: there is none. */
static bool
next(es_str_t *rest, es_str_t *member)
{
    while (rest->len != 0) {
        size_t comma = es_str_find(*rest, ',');

        *member = es_str_trim(es_str(rest->data, comma));
        *rest = es_str_from(*rest, comma < rest->len ? comma + 1 : comma);
        if (member->len != 0) {
            return true;
        }
    }
    return false;
}

/* Of others only. */
static bool
next_foreign(es_str_t *rest, es_str_t *member)
{
    while (next(rest, member)) {
        if (!es_str_starts(*member, ES_STR("ot="))) {
            return true;
        }
    }
    return false;
}

static void
check_members(es_str_t value, unsigned members)
{
    es_str_t member;
    unsigned seen = 0, one;

    while (next(&value, &member)) {
        size_t key = es_str_find(member, '=');

        fuzz_assert(fuzz_is_printable(member));
        fuzz_assert(es_tracestate_valid(member, &one) && one == 1);
        fuzz_assert(key >= 1 && key <= 256 && member.len - key - 1 >= 1);
        fuzz_assert(member.len - key - 1 <= 256);
        seen++;
    }
    fuzz_assert(members == seen && members <= ES_TRACESTATE_MEMBERS_MAX);
}

/* Ours at the left, all else as it was, but for what is too much at the right. */
static void
check_written(es_str_t before, es_str_t after, uint64_t threshold, const es_pool_t *pool)
{
    es_ot_t was = es_tracestate_ot(before), is = es_tracestate_ot(after);
    es_str_t mine, yours, again, left = after;
    unsigned members;

    fuzz_assert(es_tracestate_valid(after, &members) && after.len <= ES_TRACESTATE_MAX);
    fuzz_assert(!is.has_th || (is.th == threshold && threshold < ES_THRESHOLD_NEVER));

    /* A blank at the end of a member is lost: what was no `rv` with it may be one. */
    fuzz_assert(is.rv == was.rv || (!was.has_rv && es_str_find(before, ' ') != before.len));
    while (next_foreign(&after, &mine)) {
        fuzz_assert(next_foreign(&before, &yours) && es_str_eq(mine, yours));
    }
    fuzz_assert(!next_foreign(&before, &yours) || members == ES_TRACESTATE_MEMBERS_MAX);

    again = es_tracestate_with_th(left, threshold, pool);
    fuzz_assert(again.data == left.data && again.len == left.len);
}

static void
fuzz(fuzz_t *fuzz)
{
    const es_pool_t pool = {fuzz_pool_alloc, fuzz};
    es_str_t rate = fuzz_line(fuzz), value = fuzz_rest(fuzz);
    uint64_t threshold = ES_THRESHOLD_NEVER;
    es_error_t error;
    unsigned members;

    if (!es_tracestate_valid(value, &members)) {
        return;
    }
    check_members(value, members);
    (void) !es_parse_sample_rate(rate, &threshold, &error);
    check_written(value, es_tracestate_with_th(value, threshold, &pool), threshold, &pool);
}
