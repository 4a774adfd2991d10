/* unit_child.h: a process that does what it is told, a letter at a time, and
 * answers each time with a number. A test that has one defines _GNU_SOURCE for
 * pipe2(). */

#ifndef UNIT_CHILD_H
#define UNIT_CHILD_H

#include "unit.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct child {
    pid_t pid;
    int orders, answers;
} child_t;

typedef struct order {
    char letter;
    uint32_t id; /* of what it is about, if of anything */
} order_t;

/* False: it is to end. */
static inline bool
child_reads(const child_t *self, order_t *order)
{
    return read(self->orders, order, sizeof(*order)) == sizeof(*order) && order->letter != 'e';
}

static inline void
child_answers(const child_t *self, int64_t answer)
{
    if (write(self->answers, &answer, sizeof(answer)) != sizeof(answer)) {
        _exit(1);
    }
}

static inline child_t
child_start(void (*run)(const child_t *self, const void *data), const void *data)
{
    int orders[2], answers[2];
    child_t child;

    assert_int_equal(pipe2(orders, O_CLOEXEC), 0);
    assert_int_equal(pipe2(answers, O_CLOEXEC), 0);
    child.pid = fork();
    assert_true(child.pid >= 0);
    if (child.pid == 0) {
        close(orders[1]);
        close(answers[0]);
        alarm(120); /* should the parent be gone */
        run(&(child_t){getpid(), orders[0], answers[1]}, data);
        _exit(0);
    }
    close(orders[0]);
    close(answers[1]);
    child.orders = orders[1];
    child.answers = answers[0];
    return child;
}

static inline int64_t
ask(const child_t *child, char letter, uint32_t id)
{
    const order_t order = {letter, id};
    int64_t answer = INT64_MIN;

    assert_int_equal(write(child->orders, &order, sizeof(order)), sizeof(order));
    assert_int_equal(read(child->answers, &answer, sizeof(answer)), sizeof(answer));
    return answer;
}

static inline void
process_kill(pid_t pid, int signal)
{
    int status;

    assert_int_equal(kill(pid, signal), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(WTERMSIG(status), signal);
}

/* signal 0: it ends by itself, when it has done what it was told. */
static inline void
child_end(child_t *child, int signal)
{
    const order_t end = {'e', 0};
    int status;

    if (signal != 0) {
        process_kill(child->pid, signal);
    } else {
        assert_int_equal(write(child->orders, &end, sizeof(end)), sizeof(end));
        assert_int_equal(waitpid(child->pid, &status, 0), child->pid);
        assert_int_equal(status, 0);
    }
    close(child->orders);
    close(child->answers);
}

#endif
