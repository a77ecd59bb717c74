/* Headers of swap areas: those that mkswap writes, those that must be refused and what is said of
 * them, and broken ones.
 * SPDX-License-Identifier: MIT */
#include "env.h"

#include "base/memory.h"
#include "swap/swap_priv.h"

#include <sim/sim.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGES 64u

static const enum neomm_format formats[] = ENV_FORMATS;

static bool open_env(struct ktap *t, struct env *env)
{
    const struct env_options options = {.layer = ENV_SWAP, .format = formats[0]};
    return env_open(t, env, &options);
}

static struct neomm_block_device *sound_disk(struct env *env)
{
    struct neomm_block_device *disk = sim_disk_create(env->machine, PAGES);
    sim_disk_make_swap(disk);
    return disk;
}

static void put(struct neomm_block_device *disk, size_t at, const void *bytes, size_t size)
{
    memcpy((uint8_t *)sim_disk_page(disk, (uint32_t)(at >> NEOMM_PAGE_SHIFT)) +
               (at & (NEOMM_PAGE_SIZE - 1)),
           bytes, size);
}

static void put_number(struct neomm_block_device *disk, size_t at, uint32_t number)
{
    put(disk, at, &number, sizeof(number));
}

static uint64_t sum_of(struct neomm_block_device *disk)
{
    uint64_t sum = 0;
    for (uint32_t page = 0; page < PAGES; page++)
        sum = neomm__mix(sum + neomm__swap_checksum(sim_disk_page(disk, page)));
    return sum;
}

/* The device is refused with the status, a line that has the text, and untouched. */
static void expect_refused(struct ktap *t, struct env *env, struct neomm_block_device *disk,
                           neomm_status status, const char *text)
{
    uint64_t before = sum_of(disk);
    uint64_t free = neomm_pmm_free_frames(env->root);
    EXPECT_EQ(t, neomm_swap_add(env->root, disk, 0), status);
    const char *line = sim_last_log(env->machine);
    EXPECT(t, strncmp(line, "error: swap: sim: ", 18) == 0);
    if (!strstr(line, text) || !strstr(line, "mkswap")) {
        ktap_note(t, "log: %s", line);
        ktap_fail(t, __FILE__, __LINE__, text);
    }
    EXPECT_EQ(t, sum_of(disk), before);
    EXPECT_EQ(t, neomm_pmm_free_frames(env->root), free);
}

/* ---- signatures ---- */

struct signature_case {
    size_t at;
    const char *text;
    size_t length;
    neomm_status status;
    const char *said;
};

static const struct signature_case signatures[] = {
    {4086, "SWAP-SPACE", 10, NEOMM_E_UNSUPPORTED, "version 0"},
    {4086, "S1SUSPEND", 10, NEOMM_E_BUSY, "hibernation image of Linux"},
    {4086, "LINHIB0001", 10, NEOMM_E_BUSY, "hibernation image of Linux"},
    {4086, "S2SUSPEND", 10, NEOMM_E_BUSY, "hibernation image of uswsusp"},
    {4086, "ULSUSPEND", 10, NEOMM_E_BUSY, "hibernation image of uswsusp"},
    {4086, "\xed\xc3\x02\xe9\x98\x56\xe5\x0c", 8, NEOMM_E_BUSY, "hibernation image of TuxOnIce"},
    {0, "\xed\xc3\x02\xe9\x98\x56\xe5\x0c", 8, NEOMM_E_BUSY, "hibernation image of TuxOnIce"},
    {4086, "swapspace2", 10, NEOMM_E_CORRUPT, "no swap signature"},
    {4086, "SWAPSPACE3", 10, NEOMM_E_CORRUPT, "no swap signature"},
    {4086, "\0\0\0\0\0\0\0\0\0\0", 10, NEOMM_E_CORRUPT, "no swap signature"},
};

static void signatures_refused(struct ktap *t)
{
    struct env env;
    if (!open_env(t, &env))
        return;
    for (size_t i = 0; i < NEOMM__COUNT_OF(signatures); i++) {
        struct neomm_block_device *disk = sound_disk(&env);
        put(disk, signatures[i].at, signatures[i].text, signatures[i].length);
        expect_refused(t, &env, disk, signatures[i].status, signatures[i].said);
    }
    env_close(t, &env);
}

/* Parameter: KiB of a page. Areas and images of machines with larger pages. */
static void larger_pages(struct ktap *t)
{
    size_t at = (size_t)t->parameter * 1024 - 10;
    char said[64];
    struct env env;
    if (!open_env(t, &env))
        return;
    (void)snprintf(said, sizeof(said), "made for pages of %u KiB, not of 4",
                   (unsigned)t->parameter);
    struct neomm_block_device *disk = sound_disk(&env);
    put(disk, 4086, "\0\0\0\0\0\0\0\0\0\0", 10);
    put(disk, at, "SWAPSPACE2", 10);
    expect_refused(t, &env, disk, NEOMM_E_UNSUPPORTED, said);
    put(disk, at, "S1SUSPEND", 10);
    expect_refused(t, &env, disk, NEOMM_E_BUSY, "hibernation image of Linux");
    put(disk, at, "SWAPSPACE1", 10);
    expect_refused(t, &env, disk, NEOMM_E_CORRUPT, "no swap signature");
    /* A page of a sound area may hold anything. */
    put(disk, at, "S1SUSPEND", 10);
    put(disk, 4086, "SWAPSPACE2", 10);
    EXPECT_OK(t, neomm_swap_add(env.root, disk, 0));
    env_close(t, &env);
}

/* Devices too small for a larger page are not read beyond their end, nor are those that fail. */
static void small_devices(struct ktap *t)
{
    struct env env;
    if (!open_env(t, &env))
        return;
    for (uint32_t pages = 1; pages <= 17; pages++) {
        struct neomm_block_device *disk = sim_disk_create(env.machine, pages);
        EXPECT_EQ(t, neomm_swap_add(env.root, disk, 0), NEOMM_E_CORRUPT);
    }
    struct neomm_block_device *disk = sound_disk(&env), none = *disk;
    none.pages = 0;
    EXPECT_EQ(t, neomm_swap_add(env.root, &none, 0), NEOMM_E_INVALID);
    put(disk, 4086, "\0", 1);
    sim_disk_fault(disk, SIM_DISK_FAIL, 2, true);
    EXPECT_EQ(t, neomm_swap_add(env.root, disk, 0), NEOMM_E_CORRUPT);
    sim_disk_fault(disk, SIM_DISK_FAIL, 1, true);
    EXPECT_EQ(t, neomm_swap_add(env.root, disk, 0), NEOMM_E_IO);
    env_close(t, &env);
}

/* ---- numbers ---- */

static const struct {
    size_t at;
    uint32_t number;
    neomm_status status;
    const char *said;
} numbers[] = {
    {1024, 0, NEOMM_E_UNSUPPORTED, "version 0 of the format, not 1"},
    {1024, 2, NEOMM_E_UNSUPPORTED, "version 2 of the format, not 1"},
    {1024, 0x01000000, NEOMM_E_UNSUPPORTED, "other byte order"},
    {1028, 0, NEOMM_E_CORRUPT, "no pages"},
    {1028, PAGES, NEOMM_E_CORRUPT, "page 64 is the last, of a device of 64"},
    {1028, UINT32_MAX, NEOMM_E_CORRUPT, "page 4294967295 is the last"},
    {1032, 638, NEOMM_E_CORRUPT, "638 bad pages"},
    {1032, UINT32_MAX, NEOMM_E_CORRUPT, "bad pages"},
    {1536, 0, NEOMM_E_CORRUPT, "lists itself"},
    {1536, PAGES, NEOMM_E_CORRUPT, "lists page 64 as bad, and the last is 63"},
    {1536, UINT32_MAX, NEOMM_E_CORRUPT, "lists page 4294967295 as bad"},
    {1536, 9, NEOMM_E_CORRUPT, "lists page 9 as bad twice"},
};

/* The list of bad pages is 3, 9, 11. */
static void numbers_refused(struct ktap *t)
{
    struct env env;
    if (!open_env(t, &env))
        return;
    for (size_t i = 0; i <= NEOMM__COUNT_OF(numbers); i++) {
        struct neomm_block_device *disk = sound_disk(&env);
        put_number(disk, 1032, 3);
        put_number(disk, 1536, 3);
        put_number(disk, 1540, 9);
        put_number(disk, 1544, 11);
        if (i == NEOMM__COUNT_OF(numbers)) {
            EXPECT_OK(t, neomm_swap_add(env.root, disk, 0));
            continue;
        }
        put_number(disk, numbers[i].at, numbers[i].number);
        expect_refused(t, &env, disk, numbers[i].status, numbers[i].said);
    }
    env_close(t, &env);
}

/* ---- mkswap ---- */

/* Runs mkswap over a file of the disk's size with these arguments, and copies what it made. False:
 * there is no mkswap, or it did not want to. */
static bool mkswap(struct neomm_block_device *disk, const char *const *arguments)
{
    const char *argv[16] = {"mkswap"};
    char path[] = "/tmp/neomm-swap-XXXXXX";
    int file = mkstemp(path), n = 1, state = -1;
    if (file < 0 || ftruncate(file, (off_t)PAGES * NEOMM_PAGE_SIZE) != 0)
        return false;
    while (*arguments)
        argv[n++] = *arguments++;
    argv[n] = path;
    pid_t child = fork();
    if (child == 0) {
        (void)setenv("PATH", "/usr/sbin:/sbin:/usr/bin:/bin", 1);
        int nothing = open("/dev/null", O_WRONLY | O_CLOEXEC);
        (void)dup2(nothing, STDOUT_FILENO);
        (void)dup2(nothing, STDERR_FILENO);
        (void)execvp("mkswap", (char *const *)(uintptr_t)argv);
        _exit(127);
    }
    bool made = child > 0 && waitpid(child, &state, 0) == child && state == 0;
    for (uint32_t page = 0; made && page < PAGES; page++)
        made = pread(file, sim_disk_page(disk, page), NEOMM_PAGE_SIZE,
                     (off_t)page << NEOMM_PAGE_SHIFT) == (ssize_t)NEOMM_PAGE_SIZE;
    (void)close(file);
    (void)unlink(path);
    return made;
}

static const char *const plain[] = {NULL};
static const char *const named[] = {"-L", "a label", "-U", "01234567-89ab-cdef-0123-456789abcdef",
                                    NULL};
static const char *const checked[] = {"-c", "-p", "4096", NULL};
static const char *const pages_8k[] = {"-p", "8192", NULL};
static const char *const pages_16k[] = {"-p", "16384", NULL};
static const char *const pages_64k[] = {"-p", "65536", "-f", NULL};

static void accept(struct ktap *t, struct env *env, const char *const *arguments,
                   struct neomm_swap_area *area)
{
    struct neomm_swap_stats stats;
    struct neomm_block_device *disk = sim_disk_create(env->machine, PAGES);
    neomm_swap_stats(env->root, &stats);
    EXPECT(t, mkswap(disk, arguments));
    EXPECT_OK(t, neomm_swap_add(env->root, disk, 0));
    EXPECT_OK(t, neomm_swap_area_at(env->root, stats.areas, area));
    EXPECT_EQ(t, area->slots, PAGES - 1);
    EXPECT_EQ(t, area->bad, 0);
}

static void made_by_mkswap(struct ktap *t)
{
    static const uint8_t uuid[] = {0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef,
                                   0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef};
    static const uint8_t none[16];
    struct neomm_swap_area area;
    struct env env;
    if (!open_env(t, &env))
        return;
    struct neomm_block_device *disk = sim_disk_create(env.machine, PAGES);
    if (!mkswap(disk, plain)) {
        ktap_skip(t, "no mkswap of util-linux");
        env_close(t, &env);
        return;
    }
    accept(t, &env, plain, &area);
    EXPECT(t, memcmp(area.uuid, none, sizeof(none)) != 0);
    EXPECT_EQ(t, area.label[0], '\0');
    accept(t, &env, named, &area);
    EXPECT_EQ(t, memcmp(area.uuid, uuid, sizeof(uuid)), 0);
    EXPECT_EQ(t, strcmp(area.label, "a label"), 0);
    accept(t, &env, checked, &area);
    EXPECT(t, mkswap(disk, pages_8k));
    expect_refused(t, &env, disk, NEOMM_E_UNSUPPORTED, "pages of 8 KiB");
    disk = sim_disk_create(env.machine, PAGES);
    EXPECT(t, mkswap(disk, pages_16k));
    expect_refused(t, &env, disk, NEOMM_E_UNSUPPORTED, "pages of 16 KiB");
    disk = sim_disk_create(env.machine, PAGES);
    if (mkswap(disk, pages_64k)) /* (it wants ten pages, of whatever size) */
        expect_refused(t, &env, disk, NEOMM_E_UNSUPPORTED, "pages of 64 KiB");
    env_close(t, &env);
}

/* ---- broken headers ---- */

/* What the format says of a header, the slow way. */
static bool is_sound(struct neomm_block_device *disk)
{
    static bool seen[PAGES];
    const uint8_t *page = sim_disk_page(disk, 0);
    uint32_t number[3], bad[637];
    memcpy(number, page + 1024, sizeof(number));
    memcpy(bad, page + 1536, 637 * sizeof(bad[0]));
    memset(seen, 0, sizeof(seen));
    if (memcmp(page + 4086, "SWAPSPACE2", 10) != 0 ||
        memcmp(page, "\xed\xc3\x02\xe9\x98\x56\xe5\x0c", 8) == 0 || number[0] != 1 ||
        number[1] == 0 || number[1] >= PAGES || number[2] > 637)
        return false;
    for (uint32_t i = 0; i < number[2]; i++) {
        if (bad[i] == 0 || bad[i] > number[1] || seen[bad[i]])
            return false;
        seen[bad[i]] = true;
    }
    return true;
}

/* A number that is likely to matter, at a place that is. */
static void damage(struct neomm_block_device *disk, uint64_t *seed)
{
    static const uint32_t odd[] = {0, 1, 2, 62, 63, 64, 637, 638, UINT32_MAX, 0x01000000};
    static const size_t places[] = {0, 4, 1024, 1028, 1032, 1536, 1540, 1544, 4076, 4084, 4092};
    uint64_t draw = neomm__mix(*seed += 0x9e3779b97f4a7c15u);
    uint32_t number =
        (draw & 3) == 0 ? (uint32_t)(draw >> 32) : odd[(draw >> 8) % NEOMM__COUNT_OF(odd)];
    size_t at = (draw & 12) == 0 ? (size_t)((draw >> 20) % (NEOMM_PAGE_SIZE - 4))
                                 : places[(draw >> 20) % NEOMM__COUNT_OF(places)];
    put_number(disk, at, number);
}

static void fuzz(struct ktap *t)
{
    uint64_t seed = t->parameter;
    uint32_t taken = 0, refused = 0;
    struct env env;
    if (!open_env(t, &env))
        return;
    struct neomm_block_device *disk = sound_disk(&env);
    for (uint32_t i = 0; i < 3000 && t->failures == 0; i++) {
        if (i % 8 == 0)
            sim_disk_make_swap(disk);
        damage(disk, &seed);
        bool sound = is_sound(disk);
        neomm_status status = neomm_swap_add(env.root, disk, 0);
        EXPECT_EQ(t, status == NEOMM_OK, sound);
        taken += sound;
        refused += !sound;
        if (status != NEOMM_OK)
            continue;
        env_fsck(t, &env);
        EXPECT_OK(t, neomm_swap_fini(env.root));
        EXPECT_OK(t, neomm_swap_init(env.root));
    }
    EXPECT(t, taken > 100 && refused > 1000);
    env_close(t, &env);
}

static const uint64_t kib[] = {8, 16, 32, 64};
static const uint64_t seeds[] = {1, 2, 3};

static const struct ktap_case cases[] = {
    KTAP_CASE(signatures_refused), KTAP_CASE_WITH(larger_pages, kib), KTAP_CASE(small_devices),
    KTAP_CASE(numbers_refused),    KTAP_CASE(made_by_mkswap),         KTAP_CASE_WITH(fuzz, seeds),
};

KTAP_SUITE(swap_header, cases);
