/* Runs README's example on the simulated machine.
 * SPDX-License-Identifier: MIT */
#include "sim/sim.h"

#include <stdio.h>
#include <string.h>

struct neomm *memory_start(const struct neomm_layout *layout, const void *e820, uint32_t entries,
                           const struct neomm_boot_range *kernel);
char *name_copy(struct neomm *root, const char *name, size_t length);

struct e820_entry {
    uint64_t base, length;
    uint32_t type;
} __attribute__((packed));

static int check(struct sim *sim)
{
    static const struct e820_entry map[] = {{0x100000, 15 << 20, 1}, {0, 0x9f000, 1}};
    const struct neomm_boot_range kernel = {0x100000, 1 << 20, NEOMM_MEMORY_KERNEL};
    struct neomm_layout layout;
    struct neomm *root;
    char *name;
    bool right;

    sim_layout(sim, &layout);
    root = memory_start(&layout, map, 2, &kernel);
    if (!root)
        return 1;
    sim_set_root(sim, root);
    name = name_copy(root, "neomm", 5);
    right = name && strcmp(name, "neomm") == 0 && neomm_kfree(root, name) == NEOMM_OK;
    return right && neomm_fsck(root, NULL, NULL) == 0 ? 0 : 1;
}

int main(void)
{
    const struct sim_options options = {
        .format = NEOMM_FORMAT_4LEVEL, .ram_bytes = 16 << 20, .cpus = 1};
    struct sim *sim = sim_create(&options);
    int status = sim ? check(sim) : 1;

    printf("%s\n", status == 0 ? "README's example works" : "README's example fails");
    return status;
}
