/* QEMU with a guest that does the cases. Its RAM is a file in memory that it maps, too.
 * SPDX-License-Identifier: MIT
 *
 * Source: QEMU's manual page (memory-backend-file, isa-debug-exit); a PC with more RAM than fits
 * below 3.5 GiB has 3 GiB of it there and the rest from 4 GiB on (hw/i386/pc_piix.c).
 */
#include "mmu_qemu.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RAM_BYTES   (MMU_RAM_END - (MMU_BEHIND_HOLE - MMU_HOLE))
#define STATUS_DONE 33 /* the guest's way out */
#define TEXT_MAX    128

/* QEMU takes seconds; a guest that hangs takes for ever. */
#define POLL_MS    5
#define TIMEOUT_MS 300000

void *mmu_qemu_ram(const struct mmu_qemu *qemu, uint64_t paddr)
{
    if (paddr < MMU_HOLE)
        return qemu->ram + paddr;
    if (paddr < MMU_BEHIND_HOLE || paddr >= MMU_RAM_END)
        return NULL;
    return qemu->ram + (paddr - (MMU_BEHIND_HOLE - MMU_HOLE));
}

bool mmu_qemu_open(struct mmu_qemu *qemu)
{
    qemu->ram = MAP_FAILED;
    qemu->fd = memfd_create("mmu-guest-ram", 0);
    if (qemu->fd >= 0 && ftruncate(qemu->fd, (off_t)RAM_BYTES) == 0)
        qemu->ram =
            mmap(NULL, RAM_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, qemu->fd, 0);
    if (qemu->ram == MAP_FAILED) {
        if (qemu->fd >= 0)
            (void)close(qemu->fd);
        return false;
    }
    for (unsigned i = 0; i < MMU_BLOCKS; i++)
        for (uint64_t at = 0; at < MMU_BLOCK_SIZE; at += NEOMM_PAGE_SIZE)
            mmu_page_fill(mmu_qemu_ram(qemu, mmu_block(i) + at), mmu_block(i) + at);
    qemu->cases = mmu_qemu_ram(qemu, CHANNEL_BASE + CHANNEL_CASES_AT);
    qemu->results = mmu_qemu_ram(qemu, CHANNEL_BASE + CHANNEL_RESULTS_AT);
    return true;
}

void mmu_qemu_close(struct mmu_qemu *qemu)
{
    (void)munmap(qemu->ram, RAM_BYTES);
    (void)close(qemu->fd);
}

static void start(const struct mmu_qemu *qemu, const struct mmu_cpu *cpu)
{
    char model[TEXT_MAX], backend[TEXT_MAX];
    const char *guest = cpu->format <= NEOMM_FORMAT_PAE ? MMU_GUEST_32 : MMU_GUEST_64;
    (void)snprintf(model, sizeof(model), "max,-pse36,phys-bits=%u%s", cpu->physical_bits,
                   cpu->lacks_1g ? ",-pdpe1gb" : "");
    (void)snprintf(backend, sizeof(backend),
                   "memory-backend-file,id=ram,size=%llu,share=on,mem-path=/proc/self/fd/%d",
                   (unsigned long long)RAM_BYTES, qemu->fd);
    const char *argument[] = {"qemu-system-x86_64",
                              "-machine",
                              "pc,memory-backend=ram",
                              "-accel",
                              "tcg",
                              "-nodefaults",
                              "-display",
                              "none",
                              "-m",
                              "6G",
                              "-no-user-config",
                              "-no-reboot",
                              "-object",
                              backend,
                              "-cpu",
                              model,
                              "-kernel",
                              guest,
                              "-device",
                              "isa-debug-exit,iobase=0xf4,iosize=4",
                              NULL};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    (void)execvp(argument[0], (char *const *)(uintptr_t)argument);
    perror(argument[0]);
    _exit(127);
}

/* The status QEMU ended with; -1: not in time, and killed. */
static int wait_for(pid_t pid)
{
    const struct timespec pause = {0, POLL_MS * 1000000L};
    int status;
    for (unsigned waited = 0; waited < TIMEOUT_MS; waited += POLL_MS) {
        if (waitpid(pid, &status, WNOHANG) == pid)
            return WIFEXITED(status) ? WEXITSTATUS(status) : 256;
        (void)nanosleep(&pause, NULL);
    }
    (void)kill(pid, SIGKILL);
    (void)waitpid(pid, &status, 0);
    return -1;
}

const char *mmu_qemu_run(struct mmu_qemu *qemu, const struct mmu_cpu *cpu, uint32_t count)
{
    struct channel *channel = mmu_qemu_ram(qemu, CHANNEL_BASE);
    *channel = (struct channel){CHANNEL_MAGIC, (uint32_t)cpu->format, count, 0};
    (void)fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        return "no process for QEMU";
    if (pid == 0)
        start(qemu, cpu);
    int status = wait_for(pid);
    if (status == -1)
        return "QEMU hangs";
    if (status != STATUS_DONE)
        return "QEMU ended early";
    return channel->done == count ? NULL : "the guest left cases undone";
}
