#include "unit.h"

#include "es_tracestate.h"

static unsigned allocations;
static bool no_memory;
static void *last;

static void *
alloc(void *pool, size_t size)
{
    (void) pool;
    allocations++;
    free(last);
    return last = no_memory ? NULL : malloc(size);
}

static const es_pool_t pool = {alloc, NULL};

/* --------------------------------------------------------------- reading --- */

#define NONE UINT64_MAX

static void
read_ot(void **state)
{
    static const struct {
        const char *tracestate;
        uint64_t th, rv;
    } rows[] = {
        {"", NONE, NONE},
        {"ot=th:0", 0, NONE},
        {"ot=th:8", UINT64_C(0x80000000000000), NONE},
        {"ot=th:c", UINT64_C(0xc0000000000000), NONE},
        {"ot=th:cccd", UINT64_C(0xcccd0000000000), NONE},
        {"ot=th:fd70a", UINT64_C(0xfd70a000000000), NONE},
        {"ot=th:ce929d0e0e4736", UINT64_C(0xce929d0e0e4736), NONE},
        {"ot=th:ffffffffffffff", UINT64_C(0xffffffffffffff), NONE},
        {"ot=rv:00000000000000", NONE, 0},
        {"ot=rv:ffffffffffffff", NONE, UINT64_C(0xffffffffffffff)},
        {"ot=th:c;rv:d29d6a7215ced0", UINT64_C(0xc0000000000000), UINT64_C(0xd29d6a7215ced0)},
        {"ot=rv:d29d6a7215ced0;th:c", UINT64_C(0xc0000000000000), UINT64_C(0xd29d6a7215ced0)},
        {"ot=rv:d29d6a7215ced0  ;th:c ;x", UINT64_C(0xc0000000000000), UINT64_C(0xd29d6a7215ced0)},
        {"a=1, ot=x:y;th:8;z:th:1\t,b=2", UINT64_C(0x80000000000000), NONE},
        {"aot=th:8", NONE, NONE},
        {"ot@x=th:8", NONE, NONE},
        {"otx=th:8,ot=th:c", UINT64_C(0xc0000000000000), NONE},

        /* What is not their form is not there. */
        {"ot=th:", NONE, NONE},
        {"ot=th:C", NONE, NONE},
        {"ot=th:0x8", NONE, NONE},
        {"ot=th:g", NONE, NONE},
        {"ot=th:000000000000000", NONE, NONE},
        {"ot=th", NONE, NONE},
        {"ot=xth:8", NONE, NONE},
        {"ot=rv:0000000000000", NONE, NONE},
        {"ot=rv:000000000000000", NONE, NONE},
        {"ot=rv:0000000000000G", NONE, NONE},
        {"ot=rv:0000000000000A", NONE, NONE},
        {"ot=rv:", NONE, NONE},
        {"ot=;;;", NONE, NONE},
        {"ot=th:8,ot=th:c;rv:00000000000000", UINT64_C(0x80000000000000), NONE},
    };

    (void) state;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_str_t text = unit_exact(es_cstr(rows[i].tracestate));
        es_ot_t ot = es_tracestate_ot(text);

        if (ot.has_th != (rows[i].th != NONE) || (ot.has_th && ot.th != rows[i].th)
            || ot.has_rv != (rows[i].rv != NONE) || (ot.has_rv && ot.rv != rows[i].rv)) {
            fail_msg("%s", rows[i].tracestate);
        }
        unit_free(text);
    }
}

/* --------------------------------------------------------------- writing --- */

#define T8 UINT64_C(0x80000000000000)
#define T1PERCENT UINT64_C(0xfd70a000000000)
#define NEVER ES_THRESHOLD_NEVER

static void
write_ot(void **state)
{
    static const struct {
        const char *before;
        uint64_t threshold;
        const char *after; /* NULL: the same bytes, and no memory is asked for */
    } rows[] = {
        {"", T8, "ot=th:8"},
        {"", T1PERCENT, "ot=th:fd70a"},
        {"", 0, "ot=th:0"},
        {"", NEVER - 1, "ot=th:ffffffffffffff"},
        {"", NEVER, NULL},
        {"a=1,b=2", NEVER, NULL},
        {"a=1,b=2", T8, "ot=th:8,a=1,b=2"},
        {" a=1 ,\t,b= 2,", T8, "ot=th:8,a=1,b= 2"},

        /* What is there already. */
        {"ot=th:8", T8, NULL},
        {"a=1, ot=rv:00000000000000;th:8 ,b=2", T8, NULL},
        {"ot=th:0", 0, NULL},
        {"ot=x:y", NEVER, NULL},

        /* Another one; ours goes to the left, the rest stays. */
        {"ot=th:c", T8, "ot=th:8"},
        {"a=1,ot=th:c,b=2", T8, "ot=th:8,a=1,b=2"},
        {"ot=rv:d29d6a7215ced0;th:c;x:y", T8, "ot=th:8;rv:d29d6a7215ced0;x:y"},
        {"a=1,ot=rv:d29d6a7215ced0", T8, "ot=th:8;rv:d29d6a7215ced0,a=1"},
        {"ot=th:c;th:8", T8, "ot=th:8"},
        {"ot=th:nonsense;x:y;", T8, "ot=th:8;x:y"},
        {"ot=th:80", T8, "ot=th:8"},
        {"ot=th:c,a=1,ot=th:e", T8, "ot=th:8,a=1"},
        {"ot=th:8,a=1,ot=th:e", T8, "ot=th:8,a=1"},

        /* None any more. */
        {"ot=th:c", NEVER, ""},
        {"a=1,ot=th:c,b=2", NEVER, "a=1,b=2"},
        {"a=1,ot=th:c;rv:d29d6a7215ced0,b=2", NEVER, "ot=rv:d29d6a7215ced0,a=1,b=2"},
        {"ot=th:;x:y", NEVER, "ot=x:y"},
        {"ot=x:y,a=1,ot=th:c", NEVER, "ot=x:y,a=1"},
        {"ot= ;th:c", NEVER, ""},
        {"a=1,ot=x ;th:c", NEVER, "ot=x,a=1"},
    };

    (void) state;
    no_memory = false;
    for (size_t i = 0; i < UNIT_COUNT(rows); i++) {
        es_str_t before = unit_exact(es_cstr(rows[i].before)), after;

        allocations = 0;
        after = es_tracestate_with_th(before, rows[i].threshold, &pool);
        if (rows[i].after == NULL) {
            assert_ptr_equal(after.data, before.data);
            assert_int_equal(after.len, before.len);
            assert_int_equal(allocations, 0);
        } else {
            unsigned members;

            unit_assert_str(after, rows[i].after);
            assert_int_equal(allocations, 1);
            assert_true(es_tracestate_valid(after, &members));
        }
        unit_free(before);
    }
}

/* 32 members: the right-most gives way to ours, but only to a new one. */
static void
members(void **state)
{
    char text[1024] = "";
    unsigned count;
    es_str_t after;

    (void) state;
    for (unsigned i = 0; i < 32; i++) {
        snprintf(text + strlen(text), sizeof(text) - strlen(text), "%sk%u=v", i != 0 ? "," : "", i);
    }
    after = es_tracestate_with_th(es_cstr(text), T8, &pool);
    assert_true(es_tracestate_valid(after, &count));
    assert_int_equal(count, 32);
    assert_true(es_str_starts(after, ES_STR("ot=th:8,k0=v,k1=v,")));
    assert_memory_equal(after.data + after.len - 6, ",k30=v", 6);

    strcpy(strstr(text, "k7=v"), "ot=th:c,k8=v");
    for (unsigned i = 9; i < 32; i++) {
        snprintf(text + strlen(text), sizeof(text) - strlen(text), ",k%u=v", i);
    }
    after = es_tracestate_with_th(es_cstr(text), T8, &pool);
    assert_true(es_tracestate_valid(after, &count));
    assert_int_equal(count, 32);
    assert_memory_equal(after.data + after.len - 6, ",k31=v", 6);
}

/* The list of `ot` has 256 characters at most: `th` is left out rather than others'
 * keys. */
static void
room(void **state)
{
    (void) state;
    for (unsigned len = 240; len <= 256; len++) {
        char text[300] = "ot=x:", full[320];
        es_str_t after;

        memset(text + 5, 'y', len - 2);
        text[3 + len] = '\0';
        snprintf(full, sizeof(full), "ot=th:8;%s", text + 3);

        after = es_tracestate_with_th(es_cstr(text), T8, &pool);
        unit_assert_str(after, len + 5 <= 256 ? full : text);
        if (len + 5 > 256) {
            assert_ptr_equal(after.data, text);
        }

        /* A shorter one is in it, and is wrong: it goes. */
        if (len + 5 <= 256) {
            unsigned valid;

            after = es_tracestate_with_th(es_cstr(full), NEVER - 1, &pool);
            assert_true(es_tracestate_valid(after, &valid));
            assert_true(es_tracestate_ot(after).has_th == (len + 18 <= 256));
            if (len + 18 > 256) {
                unit_assert_str(after, text);
            }
        }
    }
}

/* No word is better than a wrong one. */
static void
memory(void **state)
{
    (void) state;
    no_memory = true;
    unit_assert_str(es_tracestate_with_th(ES_STR("a=1,ot=th:c"), T8, &pool), "");
    unit_assert_str(es_tracestate_with_th(ES_STR("a=1,ot=th:8"), T8, &pool), "a=1,ot=th:8");
    unit_assert_str(es_tracestate_with_th(ES_STR_NONE, T8, &pool), "");
    no_memory = false;
}

/* Whatever is legal stays legal, keeps its other members, and says the threshold. */
static void
random_lists(void **state)
{
    static const char *const pieces[] = {"ot=", "th:", "rv:", "c",       "8",  ";",
                                         ",",   "a",   "=",   " ",       "0",  "d29d6a7215ced0",
                                         "b",   ":",   "\t",  "ot=th:8", "x=y"};
    unit_random_t random = unit_random_init();
    unsigned legal = 0;

    (void) state;
    for (unsigned i = 0; i < 200000; i++) {
        char text[256] = "";
        unsigned before, after_members;
        es_str_t after;

        for (unsigned k = unit_random_below(&random, 14); k != 0; k--) {
            strcat(text, pieces[unit_random_below(&random, UNIT_COUNT(pieces))]);
        }
        if (!es_tracestate_valid(es_cstr(text), &before)) {
            continue;
        }
        legal++;
        after = es_tracestate_with_th(es_cstr(text), T8, &pool);
        unit_assert(&random, es_tracestate_valid(after, &after_members));
        unit_assert(&random, after_members <= before + 1);
        unit_assert(&random, es_tracestate_ot(after).has_th && es_tracestate_ot(after).th == T8);
        unit_assert(&random,
                    es_tracestate_ot(after).has_rv == es_tracestate_ot(es_cstr(text)).has_rv);

        after = es_tracestate_with_th(es_cstr(text), NEVER, &pool);
        unit_assert(&random, after.len == 0 || es_tracestate_valid(after, &after_members));
        unit_assert(&random, !es_tracestate_ot(after).has_th);
    }
    print_message("# %u legal lists\n", legal);
    assert_true(legal > 1000);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(read_ot), cmocka_unit_test(write_ot), cmocka_unit_test(members),
        cmocka_unit_test(room),    cmocka_unit_test(memory),   cmocka_unit_test(random_lists),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);

    free(last);
    return failed;
}
