/* RAM: a sparse memory file, mapped into the host process, with poison in frames that are free.
 * SPDX-License-Identifier: MIT */
#include "machine.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#if UINTPTR_MAX > 0xffffffffu
#define MAPPED_MAX UINT64_MAX
#else
#define MAPPED_MAX ((uint64_t)896 << 20)
#endif
#define CHUNK_SHIFT 22

/* Larger blocks are neither filled nor checked: it would take long and make the file dense. */
#define POISON_FRAMES_MAX (1u << NEOMM_ORDER_MAX)

static void *map_file(int fd, uint64_t from, size_t size)
{
    void *at =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, (off_t)from);
    return at == MAP_FAILED ? NULL : at;
}

/* A sparse file in memory; -1: refused. */
static int make_file(const char *name, uint64_t bytes)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    if (fd >= 0 && ftruncate(fd, (off_t)bytes) != 0) {
        (void)close(fd);
        fd = -1;
    }
    return fd;
}

static size_t poisoned_bytes(const struct sim *sim)
{
    size_t bytes = (size_t)(sim->options.ram_bytes >> (NEOMM_PAGE_SHIFT + 3)) + 1;
    return (bytes + NEOMM_PAGE_SIZE - 1) & ~(NEOMM_PAGE_SIZE - 1);
}

static size_t chunk_count(const struct sim *sim)
{
    uint64_t rest = sim->options.ram_bytes - sim->mapped;
    return (size_t)((rest + (1u << CHUNK_SHIFT) - 1) >> CHUNK_SHIFT);
}

bool sim_arena_create(struct sim *sim)
{
    uint64_t bytes = sim->options.ram_bytes;
    sim->mapped = bytes < MAPPED_MAX ? bytes : MAPPED_MAX;
    sim->fd = make_file("neomm-ram", bytes);
    sim->poisoned_fd = make_file("neomm-poisoned", poisoned_bytes(sim));
    if (sim->fd < 0 || sim->poisoned_fd < 0)
        return false;
    sim->ram = map_file(sim->fd, 0, (size_t)sim->mapped);
    sim->poisoned = map_file(sim->poisoned_fd, 0, poisoned_bytes(sim));
    sim->chunk = calloc(chunk_count(sim) + 1, sizeof(*sim->chunk));
    return sim->ram && sim->poisoned && sim->chunk;
}

void sim_arena_destroy(struct sim *sim)
{
    for (size_t i = 0; sim->chunk && i < chunk_count(sim); i++)
        if (sim->chunk[i])
            (void)munmap(sim->chunk[i], (size_t)1 << CHUNK_SHIFT);
    free(sim->chunk);
    if (sim->poisoned)
        (void)munmap(sim->poisoned, poisoned_bytes(sim));
    if (sim->ram)
        (void)munmap(sim->ram, (size_t)sim->mapped);
    if (sim->fd >= 0)
        (void)close(sim->fd);
    if (sim->poisoned_fd >= 0)
        (void)close(sim->poisoned_fd);
}

void *sim_pointer_slowly(struct sim *sim, neomm_paddr_t paddr)
{
    if (paddr >= sim->options.ram_bytes)
        return NULL;
    uint64_t at = paddr - sim->mapped;
    size_t index = (size_t)(at >> CHUNK_SHIFT);
    sim_lock(sim);
    if (!sim->chunk[index])
        sim->chunk[index] = map_file(sim->fd, sim->mapped + ((uint64_t)index << CHUNK_SHIFT),
                                     (size_t)1 << CHUNK_SHIFT);
    uint8_t *chunk = sim->chunk[index];
    sim_unlock(sim);
    if (!chunk) {
        (void)fputs("sim: the host process has no addresses left for RAM\n", stderr);
        abort();
    }
    return chunk + (at & ((1u << CHUNK_SHIFT) - 1));
}

/* Copies frame by frame, since neighbours need not be neighbours in the host. */
static bool copy(struct sim *sim, neomm_paddr_t paddr, void *host, size_t size, bool to_ram)
{
    uint8_t *bytes = host;
    if (paddr > sim->options.ram_bytes || size > sim->options.ram_bytes - paddr)
        return false;
    while (size > 0) {
        size_t part = NEOMM_PAGE_SIZE - ((size_t)paddr & (NEOMM_PAGE_SIZE - 1));
        part = part < size ? part : size;
        void *ram = sim_pointer(sim, paddr);
        if (to_ram)
            memcpy(ram, bytes, part);
        else
            memcpy(bytes, ram, part);
        paddr += part;
        bytes += part;
        size -= part;
    }
    return true;
}

bool sim_physical_read(struct sim *sim, neomm_paddr_t from, void *to, size_t size)
{
    return copy(sim, from, to, size, false);
}

bool sim_physical_write(struct sim *sim, neomm_paddr_t to, const void *from, size_t size)
{
    return copy(sim, to, (void *)(uintptr_t)from, size, true);
}

void *sim_image(struct sim *sim, size_t bytes, struct neomm_boot_range *range)
{
    uint64_t start = sim->options.ram_bytes >= (2u << 20) ? 1u << 20 : 1u << 16;
    uint64_t size = ((uint64_t)bytes + NEOMM_PAGE_SIZE - 1) & ~(uint64_t)(NEOMM_PAGE_SIZE - 1);
    uint64_t base = start + sim->image_bytes;
    if (base + size > sim->mapped)
        return NULL;
    sim->image_bytes += size;
    range->base = base;
    range->length = size;
    range->type = NEOMM_MEMORY_KERNEL;
    return sim->ram + (size_t)base;
}

/* ---- poison ---- */

static bool test_poisoned(const struct sim *sim, uint32_t frame)
{
    return sim->poisoned[frame >> 3] >> (frame & 7) & 1;
}

static void mark_poisoned(struct sim *sim, uint32_t frame, bool on)
{
    uint8_t bit = (uint8_t)(1u << (frame & 7));
    if (on)
        sim->poisoned[frame >> 3] |= bit;
    else
        sim->poisoned[frame >> 3] &= (uint8_t)~bit;
}

static void fill(uint64_t *words)
{
    for (size_t i = 0; i < NEOMM_PAGE_SIZE / sizeof(*words); i++)
        words[i] = SIM_POISON;
}

/* The first word that is not poison; the number of words in a frame if all are. */
static size_t first_changed(const uint64_t *words)
{
    size_t i = 0;
    while (i < NEOMM_PAGE_SIZE / sizeof(*words) && words[i] == SIM_POISON)
        i++;
    return i;
}

static uint64_t *frame_words(struct sim *sim, uint32_t frame)
{
    return sim_pointer(sim, neomm_frame_paddr(neomm_frame(frame)));
}

void sim_arena_freed(struct sim *sim, neomm_frame_t first, uint32_t count)
{
    if (count > POISON_FRAMES_MAX)
        return;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t *words = frame_words(sim, first.number + i);
        if (!words) {
            sim_violation(sim, "frame %#x was freed and is not RAM", first.number + i);
            return;
        }
        fill(words);
        mark_poisoned(sim, first.number + i, true);
    }
}

static void check_poison(struct sim *sim, uint32_t frame, const uint64_t *words)
{
    size_t at = first_changed(words);
    if (at < NEOMM_PAGE_SIZE / sizeof(*words))
        sim_violation(sim, "frame %#x was written to while it was free: offset %#zx holds %#llx",
                      frame, at * sizeof(*words), (unsigned long long)words[at]);
}

void sim_arena_allocated(struct sim *sim, neomm_frame_t first, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t frame = first.number + i;
        uint64_t *words = frame_words(sim, frame);
        if (!words) {
            sim_violation(sim, "frame %#x was allocated and is not RAM", frame);
            return;
        }
        if (test_poisoned(sim, frame))
            check_poison(sim, frame, words);
        else if (count <= POISON_FRAMES_MAX)
            fill(words);
        mark_poisoned(sim, frame, false);
    }
}

void sim_watch_pages(struct sim *sim, bool on)
{
    sim->watches_pages = on;
}

void sim_arena_shown(struct sim *sim, neomm_paddr_t page, uint64_t size, neomm_paddr_t entry)
{
    for (neomm_paddr_t at = page; at < page + size; at += NEOMM_PAGE_SIZE) {
        const uint64_t *words = sim_pointer(sim, at);
        for (size_t i = 0; words && i < NEOMM_PAGE_SIZE / sizeof(*words); i++)
            if (words[i] == SIM_POISON) {
                sim_violation(sim,
                              "frame %#llx was shown to a user by the entry at %#llx with what is "
                              "left of somebody else's memory at offset %#zx",
                              (unsigned long long)(at >> NEOMM_PAGE_SHIFT),
                              (unsigned long long)entry, i * sizeof(*words));
                return;
            }
    }
}

/* ---- bad cells ---- */

static void add_cell_fault(struct sim *sim, struct sim_cell_fault fault)
{
    if (sim->cell_faults == SIM_CELL_FAULTS || !sim_pointer(sim, fault.address) ||
        !sim_pointer(sim, fault.alias)) {
        (void)fputs("sim: no such cell, or too many that are bad\n", stderr);
        abort();
    }
    sim->cell_fault[sim->cell_faults++] = fault;
}

void sim_physical_stick(struct sim *sim, neomm_paddr_t address, uint64_t bits, uint64_t value)
{
    add_cell_fault(sim, (struct sim_cell_fault){address & ~(neomm_paddr_t)7, 0, bits, value});
}

void sim_physical_alias(struct sim *sim, neomm_paddr_t address, neomm_paddr_t alias)
{
    add_cell_fault(
        sim, (struct sim_cell_fault){address & ~(neomm_paddr_t)7, alias & ~(neomm_paddr_t)7, 0, 0});
}

void sim_arena_settle(struct sim *sim)
{
    for (uint32_t i = 0; i < sim->cell_faults; i++) {
        const struct sim_cell_fault *fault = &sim->cell_fault[i];
        uint64_t *word = sim_pointer(sim, fault->address);
        if (fault->alias != 0)
            *word = *(const uint64_t *)sim_pointer(sim, fault->alias);
        else
            *word = (*word & ~fault->mask) | (fault->value & fault->mask);
    }
}
