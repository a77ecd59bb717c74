/* A test of memory on request.
 * SPDX-License-Identifier: MIT
 *
 * A pass gives every word of the range a value that follows from its address alone, flushes the
 * caches, and compares. Between the two halves of a pass the whole range has been written, so two
 * addresses of one cell show, too. Which frames are bad is kept in their descriptors meanwhile.
 */
#include "base/bits.h"
#include "pmm/pmm_priv.h"

#include <neomm/cpu.h>

#define FRAME_WORDS (NEOMM_PAGE_SIZE / sizeof(uint64_t))

/* Passes are numbered through: walking ones, walking zeros, addresses, patterns. */
#define PASS_ONES     0u
#define PASS_ZEROS    64u
#define PASS_ADDRESS  128u
#define PASS_PATTERNS 130u
#define PASS_MIXED    134u
#define PASSES        136u

struct memtest {
    struct neomm *root;
    uint32_t first, frames;
    struct neomm_memtest_result *result;
};

static uint32_t test_of(unsigned pass)
{
    if (pass < PASS_ZEROS)
        return NEOMM_MEMTEST_ONES;
    if (pass < PASS_ADDRESS)
        return NEOMM_MEMTEST_ZEROS;
    return pass < PASS_PATTERNS ? NEOMM_MEMTEST_ADDRESS : NEOMM_MEMTEST_PATTERNS;
}

/* The bit walks from word to word as well, so that neighbours differ. */
static uint64_t value_of(unsigned pass, neomm_paddr_t address)
{
    static const uint64_t fixed[] = {0, UINT64_MAX, 0x5555555555555555u, 0xaaaaaaaaaaaaaaaau};
    uint64_t walking = (uint64_t)1 << ((address / sizeof(uint64_t) + pass) % 64);
    if (pass < PASS_ZEROS)
        return walking;
    if (pass < PASS_ADDRESS)
        return ~walking;
    if (pass < PASS_PATTERNS)
        return pass == PASS_ADDRESS ? address : ~address;
    if (pass < PASS_MIXED)
        return fixed[pass - PASS_PATTERNS];
    return pass == PASS_MIXED ? neomm__mix(address) : ~neomm__mix(address);
}

static void write_frame(unsigned pass, neomm_paddr_t address, volatile uint64_t *words)
{
    for (size_t i = 0; i < FRAME_WORDS; i++)
        words[i] = value_of(pass, address + i * sizeof(*words));
    neomm_cpu_flush_cache((const void *)(uintptr_t)words, NEOMM_PAGE_SIZE);
}

/* The lowest bad word is told, with all its bad bits, whichever pass finds them. */
static void note_word(struct memtest *test, neomm_paddr_t address, uint64_t bits)
{
    struct neomm_memtest_result *result = test->result;
    if (result->bits == 0 || address < result->address) {
        result->address = address;
        result->bits = 0;
    }
    if (address == result->address)
        result->bits |= bits;
}

static void read_frame(struct memtest *test, unsigned pass, neomm_frame_t frame,
                       const volatile uint64_t *words)
{
    neomm_paddr_t address = neomm_frame_paddr(frame);
    for (size_t i = 0; i < FRAME_WORDS; i++) {
        uint64_t wrong = words[i] ^ value_of(pass, address + i * sizeof(*words));
        if (wrong == 0)
            continue;
        neomm__frame(test->root, frame)->kind = NEOMM__KIND_BAD;
        note_word(test, address + i * sizeof(*words), wrong);
    }
}

/* One half of a pass. False: a frame could not be mapped. */
static bool go_over(struct memtest *test, unsigned pass, bool writing)
{
    for (uint32_t i = 0; i < test->frames; i++) {
        neomm_frame_t frame = neomm_frame(test->first + i);
        neomm_irq_t irq = neomm_port_irq_save();
        uint64_t *words = neomm_frame_map(test->root, frame);
        if (words && writing)
            write_frame(pass, neomm_frame_paddr(frame), words);
        else if (words)
            read_frame(test, pass, frame, words);
        if (words)
            neomm_frame_unmap(test->root, words);
        neomm_port_irq_restore(irq);
        if (!words)
            return false;
    }
    return true;
}

/* May the caller lose what is in this frame? */
static neomm_status check_owned(const struct neomm *root, neomm_frame_t frame)
{
    const struct neomm__frame *entry = neomm__frame(root, frame);
    if (!entry || !neomm__frame_has(entry, NEOMM__FRAME_ALLOCATED))
        return NEOMM_E_FOREIGN;
    if (entry->order != 0)
        return NEOMM_E_INVALID;
    if (neomm__load_acquire(&entry->references) != 1 ||
        neomm__load_acquire(&entry->mappings) != 0 || entry->kind != NEOMM__KIND_NONE)
        return NEOMM_E_BUSY;
    return NEOMM_OK;
}

/* Takes the marks off the bad frames again, which become the caller's or nobody's. */
static void finish(struct memtest *test, bool retire)
{
    for (uint32_t i = 0; i < test->frames; i++) {
        neomm_frame_t frame = neomm_frame(test->first + i);
        struct neomm__frame *entry = neomm__frame(test->root, frame);
        if (entry->kind != NEOMM__KIND_BAD)
            continue;
        entry->kind = NEOMM__KIND_NONE;
        test->result->frames++;
        if (retire)
            (void)neomm_pmm_retire(test->root, frame);
    }
}

static bool run(struct memtest *test, uint32_t tests)
{
    for (unsigned pass = 0; pass < PASSES; pass++)
        if ((tests & test_of(pass)) && (!go_over(test, pass, true) || !go_over(test, pass, false)))
            return false;
    return true;
}

neomm_status neomm_pmm_memtest(struct neomm *root, neomm_frame_t first, uint32_t frames,
                               uint32_t tests, struct neomm_memtest_result *result)
{
    struct memtest test = {root, first.number, frames, result};
    memset(result, 0, sizeof(*result));
    if (!root->pmm || frames == 0 || (tests & NEOMM_MEMTEST_ALL) == 0 ||
        (tests & ~(NEOMM_MEMTEST_ALL | NEOMM_MEMTEST_RETIRE)) != 0)
        return NEOMM_E_INVALID;
    for (uint32_t i = 0; i < frames; i++) {
        neomm_status status = check_owned(root, neomm_frame(first.number + i));
        if (status != NEOMM_OK)
            return status;
    }
    bool complete = run(&test, tests);
    finish(&test, complete && (tests & NEOMM_MEMTEST_RETIRE));
    if (!complete) {
        memset(result, 0, sizeof(*result));
        return NEOMM_E_NOMEM;
    }
    return result->frames != 0 ? NEOMM_E_CORRUPT : NEOMM_OK;
}
