/* The demo kernel: boots, starts the memory manager, tests it, shows memstat, and leaves.
 * SPDX-License-Identifier: MIT
 *
 * Words of the command line: pae (i386) chooses the PAE format; virtio swaps to the first virtio
 * disk instead of one in memory; with nopool pages go there without being compressed first; hang
 * and crash make the boot go wrong on purpose, for the test of the test driver.
 */
#include "kernel.h"

void ktap_write(const char *text, size_t length)
{
    console_write(text, length);
}

static const char *format_name(void)
{
    static const char *const name[] = {"2-level", "PAE", "4-level", "5-level"};
    return name[boot_format()];
}

NEOMM_NORETURN static void hang(void)
{
    for (;;)
        __builtin_ia32_pause();
}

void kernel_main(uint32_t loader_info)
{
    console_init();
    machine_init();
    clock_init();
    command_line_read(loader_info);
    console_print("# neomm demo kernel, %s paging, command line: %s\n", format_name(),
                  command_line());
    if (command_line_has("hang"))
        hang();
    if (command_line_has("crash"))
        __builtin_trap();
    if (!memory_start(loader_info))
        machine_exit(EXIT_FAILED);
    machine_exit(suites_run() == 0 ? EXIT_PASSED : EXIT_FAILED);
}
