/* Slots and leadership between processes. */

#define _GNU_SOURCE /* pipe2 */

#include "unit_child.h"

#include "es_leader.h"

#include <poll.h>

enum { SLOTS = 8 };

static int locks = -1;

static void
child_run(const child_t *self, const void *unused)
{
    int answer = 0, slot = -1;
    order_t order;

    (void) unused;
    while (child_reads(self, &order)) {
        switch (order.letter) {
        case 's':
            answer = slot = es_slot_take(locks, SLOTS);
            break;
        case 'r':
            es_slot_release(locks, (unsigned) slot);
            answer = 0;
            break;
        case 'o':
            answer = es_slots_others(locks, SLOTS);
            break;
        case 'l':
            answer = es_leadership_take(locks);
            break;
        case 'u':
            es_leadership_release(locks);
            answer = 0;
            break;
        case 'h':
            answer = es_leadership_holder(locks);
            break;
        default:
            _exit(1);
        }
        child_answers(self, answer);
    }
}

/* ----------------------------------------------------------------- tests --- */

static void
slots(void **state)
{
    child_t children[SLOTS + 1];
    child_t again;

    (void) state;
    for (int i = 0; i <= SLOTS; i++) {
        children[i] = child_start(child_run, NULL);
    }
    assert_false(es_slots_others(locks, SLOTS));
    assert_int_equal(ask(&children[0], 'o', 0), 0);
    for (int i = 0; i < SLOTS; i++) {
        assert_int_equal(ask(&children[i], 's', 0), i);
        assert_true(es_slots_others(locks, SLOTS));
        assert_int_equal(ask(&children[i], 'o', 0), i > 0);
    }
    assert_int_equal(ask(&children[SLOTS], 's', 0), -1);
    assert_int_equal(es_slot_take(locks, SLOTS), -1);

    /* The lowest free slot goes to the next one: released, or of a dead process. */
    assert_int_equal(ask(&children[5], 'r', 0), 0);
    child_end(&children[2], SIGKILL);
    assert_int_equal(ask(&children[SLOTS], 's', 0), 2);
    assert_int_equal(ask(&children[5], 's', 0), 5);
    again = child_start(child_run, NULL);
    assert_int_equal(ask(&again, 's', 0), -1);

    child_end(&again, SIGKILL);
    for (int i = 0; i <= SLOTS; i++) {
        if (i != 2) {
            child_end(&children[i], SIGKILL);
        }
    }
    assert_false(es_slots_others(locks, SLOTS));
}

/* A process's own slot is not another's. */
static void
others(void **state)
{
    child_t one = child_start(child_run, NULL), two = child_start(child_run, NULL);

    (void) state;
    assert_int_equal(ask(&one, 's', 0), 0);
    assert_int_equal(ask(&one, 'o', 0), 0);
    assert_int_equal(ask(&two, 'o', 0), 1);
    assert_int_equal(ask(&two, 's', 0), 1);
    assert_int_equal(ask(&one, 'o', 0), 1);

    /* Leadership is no slot. */
    assert_int_equal(ask(&two, 'l', 0), 1);
    assert_int_equal(ask(&two, 'r', 0), 0);
    assert_int_equal(ask(&one, 'o', 0), 0);
    child_end(&two, SIGKILL);
    assert_int_equal(ask(&one, 'o', 0), 0);
    child_end(&one, SIGKILL);
}

static void
leadership(void **state)
{
    child_t one = child_start(child_run, NULL), two = child_start(child_run, NULL),
            three = child_start(child_run, NULL);

    (void) state;
    assert_int_equal(es_leadership_holder(locks), 0);
    assert_int_equal(ask(&one, 'l', 0), 1);
    assert_int_equal(es_leadership_holder(locks), one.pid);
    assert_int_equal(ask(&two, 'h', 0), one.pid);
    assert_int_equal(ask(&one, 'h', 0), 0);
    assert_int_equal(ask(&two, 'l', 0), 0);
    assert_int_equal(ask(&three, 'l', 0), 0);
    assert_false(es_leadership_take(locks));

    /* A slot is no leadership, and the other way round. */
    assert_int_equal(ask(&two, 's', 0), 0);
    assert_int_equal(ask(&two, 'r', 0), 0);
    assert_int_equal(es_leadership_holder(locks), one.pid);

    /* Left in order. */
    assert_int_equal(ask(&one, 'u', 0), 0);
    assert_int_equal(es_leadership_holder(locks), 0);
    assert_int_equal(ask(&two, 'l', 0), 1);
    assert_int_equal(ask(&one, 'l', 0), 0);
    assert_int_equal(ask(&one, 'h', 0), two.pid);

    /* Killed. */
    child_end(&two, SIGKILL);
    assert_int_equal(es_leadership_holder(locks), 0);
    assert_int_equal(ask(&three, 'l', 0), 1);
    assert_int_equal(ask(&one, 'h', 0), three.pid);

    child_end(&three, SIGTERM);
    assert_int_equal(es_leadership_holder(locks), 0);
    child_end(&one, SIGKILL);
}

/* Of many that try, one leads; each time that it is killed, one other does. */
static void
succession(void **state)
{
    enum { CHILDREN = 6 };
    child_t children[CHILDREN];

    (void) state;
    for (int i = 0; i < CHILDREN; i++) {
        children[i] = child_start(child_run, NULL);
    }
    for (int dead = 0; dead < CHILDREN; dead++) {
        int leaders = 0, leader = -1;

        for (int i = 0; i < CHILDREN; i++) {
            if (children[i].pid != 0 && ask(&children[i], 'l', 0)) {
                leaders++;
                leader = i;
            }
        }
        assert_int_equal(leaders, 1);
        assert_int_equal(es_leadership_holder(locks), children[leader].pid);
        child_end(&children[leader], SIGKILL);
        children[leader].pid = 0;
    }
}

/* A child of the holder holds nothing. */
static void
not_inherited(void **state)
{
    child_t child;

    (void) state;
    assert_int_equal(es_slot_take(locks, SLOTS), 0);
    assert_true(es_leadership_take(locks));
    child = child_start(child_run, NULL);
    assert_int_equal(ask(&child, 'h', 0), getpid());
    assert_int_equal(ask(&child, 'l', 0), 0);
    assert_int_equal(ask(&child, 's', 0), 1);
    assert_int_equal(ask(&child, 'o', 0), 1);

    es_leadership_release(locks);
    es_slot_release(locks, 0);
    assert_int_equal(ask(&child, 'o', 0), 0);
    assert_int_equal(ask(&child, 'l', 0), 1);
    child_end(&child, SIGKILL);
}

static void
close_on_exec(void **state)
{
    (void) state;
    assert_true(fcntl(locks, F_GETFD) & FD_CLOEXEC);
}

static void
watch(void **state)
{
    child_t child = child_start(child_run, NULL);
    struct pollfd ended = {.fd = es_process_watch(child.pid), .events = POLLIN};
    int status;

    (void) state;
    if (ended.fd < 0) {
        child_end(&child, SIGKILL);
        print_message("# not tried: a kernel without pidfd_open()\n");
        return;
    }
    assert_true(fcntl(ended.fd, F_GETFD) & FD_CLOEXEC);
    assert_int_equal(poll(&ended, 1, 20), 0);
    assert_int_equal(kill(child.pid, SIGKILL), 0);
    assert_int_equal(poll(&ended, 1, 10000), 1);
    close(ended.fd);
    assert_int_equal(waitpid(child.pid, &status, 0), child.pid);
    close(child.orders);
    close(child.answers);

    assert_int_equal(es_process_watch(child.pid), -1);
}

static int
open_locks(void **state)
{
    (void) state;
    locks = es_locks_create();
    return locks >= 0 ? 0 : -1;
}

static int
close_locks(void **state)
{
    (void) state;
    return close(locks);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, open_locks, close_locks)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(slots),         TEST(others),        TEST(leadership), TEST(succession),
        TEST(not_inherited), TEST(close_on_exec), TEST(watch),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
