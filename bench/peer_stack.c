/* A frame allocator of the simplest kind, to test --peer and as an example of bench/peer.h: a
 * stack of single frames and one of huge ones, from separate parts of memory, under one lock.
 * SPDX-License-Identifier: MIT */
#include "peer.h"

#include <stdatomic.h>
#include <stdlib.h>

#define HUGE_ORDER 9u

struct stack {
    uint64_t *block;
    uint64_t count, capacity;
};

struct allocator {
    atomic_flag lock;
    struct stack single, huge;
};

bench_peer_init_fn neomm_peer_init;
bench_peer_alloc_fn neomm_peer_alloc;
bench_peer_free_fn neomm_peer_free;
bench_peer_metadata_fn neomm_peer_metadata;

static bool fill(struct stack *stack, uint64_t first, uint64_t count, uint32_t order)
{
    stack->capacity = stack->count = count;
    if (!stack->block)
        stack->block = calloc(count, sizeof(stack->block[0]));
    for (uint64_t i = 0; stack->block && i < count; i++)
        stack->block[count - 1 - i] = first + (i << order);
    return stack->block != NULL;
}

void *neomm_peer_init(void *previous, uint64_t frames, uint32_t cpus)
{
    struct allocator *made = previous ? previous : calloc(1, sizeof(*made));
    uint64_t huge = frames / 2 >> HUGE_ORDER, singles = huge << HUGE_ORDER;
    (void)cpus;
    if (!made || !fill(&made->huge, 0, huge, HUGE_ORDER) ||
        !fill(&made->single, singles, frames - singles, 0))
        return NULL;
    return made;
}

static struct stack *lock(struct allocator *allocator, uint32_t order)
{
    while (atomic_flag_test_and_set_explicit(&allocator->lock, memory_order_acquire))
        continue;
    return order ? &allocator->huge : &allocator->single;
}

uint64_t neomm_peer_alloc(void *allocator, uint32_t cpu, uint32_t order)
{
    struct allocator *self = allocator;
    struct stack *stack = lock(self, order);
    (void)cpu;
    uint64_t block = stack->count ? stack->block[--stack->count] : BENCH_PEER_NONE;
    atomic_flag_clear_explicit(&self->lock, memory_order_release);
    return block;
}

bool neomm_peer_free(void *allocator, uint32_t cpu, uint64_t frame, uint32_t order)
{
    struct allocator *self = allocator;
    struct stack *stack = lock(self, order);
    (void)cpu;
    bool room = stack->count < stack->capacity;
    if (room)
        stack->block[stack->count++] = frame;
    atomic_flag_clear_explicit(&self->lock, memory_order_release);
    return room;
}

size_t neomm_peer_metadata(void *allocator)
{
    const struct allocator *self = allocator;
    return (size_t)(self->single.capacity + self->huge.capacity) * sizeof(uint64_t);
}
