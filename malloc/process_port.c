/* The port of a process: what the engine needs besides port_inline.h, and locks and text for the
 * files here.
 * SPDX-License-Identifier: MIT */
#include "process.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

/* Looks at a lock before the processor is given away. */
#define SPINS 64u

/* ---- text ---- */

void process_text_add(struct process_text *text, const char *part)
{
    size_t length = strlen(part), room = sizeof(text->text) - text->length;
    length = length < room ? length : room;
    memcpy(text->text + text->length, part, length);
    text->length += length;
}

void process_text_number(struct process_text *text, uint64_t number)
{
    char digits[21] = {0};
    size_t at = sizeof(digits) - 1;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    process_text_add(text, digits + at);
}

void process_text_pointer(struct process_text *text, const void *pointer)
{
    char digits[2 + 2 * sizeof(pointer) + 1] = {0};
    uintptr_t rest = (uintptr_t)pointer;
    size_t at = sizeof(digits) - 1;
    do {
        digits[--at] = "0123456789abcdef"[rest % 16];
        rest /= 16;
    } while (rest != 0);
    process_text_add(text, "0x");
    process_text_add(text, digits + at);
}

void process_text_write(const struct process_text *text, int file)
{
    int saved = errno;
    size_t done = 0;
    while (done < text->length) {
        ssize_t n = write(file, text->text + done, text->length - done);
        if (n < 0 && errno != EINTR)
            break;
        done += n > 0 ? (size_t)n : 0;
    }
    errno = saved;
}

/* ---- the port ---- */

void neomm_port_log(enum neomm_log_level level, const char *line, size_t length)
{
    struct process_text text = {.length = 0};
    if (level > NEOMM_LOG_WARNING)
        return;
    process_text_add(&text, "neomm-malloc: ");
    if (length > sizeof(text.text) - text.length - 1)
        length = sizeof(text.text) - text.length - 1;
    memcpy(text.text + text.length, line, length);
    text.length += length;
    process_text_add(&text, "\n");
    process_text_write(&text, STDERR_FILENO);
}

void neomm_port_panic(const char *line)
{
    neomm_port_log(NEOMM_LOG_ERROR, line, strlen(line));
    abort();
}

/* The engine calls it inside, without locks of its own; whoever handles SIGABRT may allocate. */
void process_misused(void)
{
    struct process_text text = {.length = 0};
    if (!process.options.bad_free_aborts)
        return;
    if (process_self()->inside)
        process_leave_any(process_self());
    process_text_add(&text, "neomm-malloc: the program ends here "
                            "(NEOMM_MALLOC_OPTIONS=bad_free=log goes on)\n");
    process_text_write(&text, STDERR_FILENO);
    abort();
}

void process_say(const char *function, const void *pointer, const char *what)
{
    struct process_text text = {.length = 0};
    process_text_add(&text, "neomm-malloc: ");
    process_text_add(&text, function);
    process_text_add(&text, " of ");
    process_text_pointer(&text, pointer);
    process_text_add(&text, ": ");
    process_text_add(&text, what);
    process_text_add(&text, "\n");
    process_text_write(&text, STDERR_FILENO);
}

void process_accuse(const char *function, const void *pointer, const char *what)
{
    process_say(function, pointer, what);
    process_misused();
}

uint64_t neomm_port_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t neomm_port_entropy(void)
{
    uint64_t bits = 0;
    int saved = errno;
    if (getrandom(&bits, sizeof(bits), GRND_NONBLOCK) != (ssize_t)sizeof(bits))
        bits ^= neomm_port_now() * 0x9e3779b97f4a7c15u;
    errno = saved;
    return bits;
}

void process_spin(void)
{
    static __thread uint32_t spins __attribute__((tls_model("initial-exec")));
    if (++spins % SPINS == 0)
        (void)sched_yield();
    else
        __builtin_ia32_pause();
}

/* ---- locks ---- */

static void futex(uint32_t *word, int operation, uint32_t value)
{
    int saved = errno;
    (void)syscall(SYS_futex, word, operation, value, NULL, NULL, 0);
    errno = saved;
}

void process_lock(struct process_lock *lock)
{
    uint32_t word = 0;
    if (__atomic_compare_exchange_n(&lock->word, &word, 1, false, __ATOMIC_ACQUIRE,
                                    __ATOMIC_RELAXED))
        return;
    while (__atomic_exchange_n(&lock->word, 2, __ATOMIC_ACQUIRE) != 0)
        futex(&lock->word, FUTEX_WAIT_PRIVATE, 2);
}

void process_unlock(struct process_lock *lock)
{
    if (__atomic_exchange_n(&lock->word, 0, __ATOMIC_RELEASE) == 2)
        futex(&lock->word, FUTEX_WAKE_PRIVATE, 1);
}
