/* A combined tracestate: what is legal is legal member by member. */

#include "fuzz.h"

#include "es_tracestate.h"

static void
fuzz(fuzz_t *fuzz)
{
    es_str_t value = fuzz_rest(fuzz), rest = value;
    unsigned members, members_seen = 0;

    if (!es_tracestate_valid(value, &members)) {
        return;
    }
    while (rest.len != 0) {
        es_str_t member = es_str_trim(fuzz_until(fuzz, &rest, ','));
        size_t key = es_str_find(member, '=');
        unsigned one;

        fuzz_assert(fuzz_is_printable(member));
        fuzz_assert(es_tracestate_valid(member, &one) && one == (member.len != 0));
        if (member.len != 0) {
            fuzz_assert(key >= 1 && key <= 256 && member.len - key - 1 >= 1);
            fuzz_assert(member.len - key - 1 <= 256);
            members_seen++;
        }
    }
    fuzz_assert(members == members_seen && members <= 32);
}
