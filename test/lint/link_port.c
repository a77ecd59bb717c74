/* A port that does nothing: what a layer needs to be linked. Runs nothing of the library.
 * SPDX-License-Identifier: MIT */
#include <neomm/neomm.h>

#include <stdlib.h>

static struct neomm_cpu cpu;

void neomm_port_panic(const char *text)
{
    (void)text;
    abort();
}

void neomm_port_log(enum neomm_log_level level, const char *text, size_t length)
{
    (void)level, (void)text, (void)length;
}

struct neomm_cpu *neomm_port_cpu(void)
{
    return &cpu;
}

struct neomm_cpu *neomm_port_pin(void)
{
    return &cpu;
}

void neomm_port_unpin(void)
{
}

neomm_irq_t neomm_port_irq_save(void)
{
    return 0;
}

void neomm_port_irq_restore(neomm_irq_t state)
{
    (void)state;
}

void neomm_port_ipi(const struct neomm_cpumask *cpus, void (*call)(void *argument), void *argument)
{
    (void)cpus, (void)call, (void)argument;
}

uint64_t neomm_port_now(void)
{
    return 0;
}

uint64_t neomm_port_entropy(void)
{
    return 4;
}

uint64_t neomm_port_task(void)
{
    return 1;
}

neomm_status neomm_port_wait(const uint32_t *word, uint32_t value, uint64_t timeout_ns)
{
    (void)word, (void)value, (void)timeout_ns;
    return NEOMM_E_TIMEOUT;
}

void neomm_port_wake(const uint32_t *word, uint32_t count)
{
    (void)word, (void)count;
}

void neomm_port_oom(struct neomm *root, uint32_t space)
{
    (void)root, (void)space;
}
