# The library's sources, layer by layer, for this build and for kernels that build otherwise.
# Paths are relative to the repository; NEOMM_ARCH is x86_64 or i386. One file a line.
# SPDX-License-Identifier: MIT

set(NEOMM_BASE_SOURCES
  src/base/bitmap.c
  src/base/config.c
  src/base/config_parse.c
  src/base/config_value.c
  src/base/config_words.c
  src/base/epoch.c
  src/base/format.c
  src/base/frame.c
  src/base/lock.c
  src/base/mutex.c
  src/base/root.c
  src/base/stats.c
  src/base/stats_json.c)

set(NEOMM_ARCH_SOURCES
  src/arch/layout.c
  src/arch/${NEOMM_ARCH}/layout_${NEOMM_ARCH}.c)
set(NEOMM_ARCH_CPU_SOURCES src/arch/${NEOMM_ARCH}/cpu.c)

set(NEOMM_PMM_SOURCES
  src/pmm/zone.c
  src/pmm/bootmap.c
  src/pmm/bootmap_firmware.c
  src/pmm/choose.c
  src/pmm/field.c
  src/pmm/frame_cache.c
  src/pmm/frame_fill.c
  src/pmm/memtest.c
  src/pmm/pmm.c
  src/pmm/pmm_check.c
  src/pmm/pmm_init.c
  src/pmm/pmm_stats.c
  src/pmm/range.c
  src/pmm/ram_run.c)

set(NEOMM_PAGING_SOURCES
  src/paging/cache_type.c
  src/paging/engines.c
  src/paging/flush.c
  src/paging/handover.c
  src/paging/high_slots.c
  src/paging/paging.c
  src/paging/paging_init.c
  src/paging/paging_space.c
  src/paging/table_dump.c
  src/paging/table_frames.c
  src/paging/window_ranges.c)
if(NEOMM_ARCH STREQUAL x86_64)
  list(APPEND NEOMM_PAGING_SOURCES
    src/paging/engine_4level.c
    src/paging/engine_5level.c)
else()
  list(APPEND NEOMM_PAGING_SOURCES
    src/paging/engine_2level.c
    src/paging/engine_pae.c)
endif()

set(NEOMM_HEAP_SOURCES
  src/heap/bulk.c
  src/heap/depot.c
  src/heap/guard.c
  src/heap/harden.c
  src/heap/heap.c
  src/heap/heap_check.c
  src/heap/heap_class.c
  src/heap/heap_config.c
  src/heap/kmem.c
  src/heap/later.c
  src/heap/ledger.c
  src/heap/magazine.c
  src/heap/profile.c
  src/heap/record.c
  src/heap/report.c
  src/heap/run.c
  src/heap/site.c
  src/heap/slab.c
  src/heap/source_direct.c
  src/heap/source_window.c)

set(NEOMM_SWAP_SOURCES
  src/swap/area.c
  src/swap/checksum.c
  src/swap/lz4.c
  src/swap/policy.c
  src/swap/policy_adaptive.c
  src/swap/policy_aging.c
  src/swap/policy_clock.c
  src/swap/policy_clockpro.c
  src/swap/policy_fifo.c
  src/swap/policy_gclock.c
  src/swap/policy_generations.c
  src/swap/policy_nru.c
  src/swap/policy_queue.c
  src/swap/policy_random.c
  src/swap/policy_s3fifo.c
  src/swap/policy_sieve.c
  src/swap/policy_ws.c
  src/swap/policy_wsclock.c
  src/swap/slots.c
  src/swap/swap_check.c
  src/swap/swap_io.c)

set(NEOMM_VMM_SOURCES
  src/vmm/account.c
  src/vmm/advice.c
  src/vmm/balance.c
  src/vmm/cache.c
  src/vmm/cache_file.c
  src/vmm/cache_io.c
  src/vmm/cache_map.c
  src/vmm/cache_write.c
  src/vmm/compact.c
  src/vmm/evict.c
  src/vmm/fault.c
  src/vmm/fault_object.c
  src/vmm/fork.c
  src/vmm/grow.c
  src/vmm/huge.c
  src/vmm/migrate.c
  src/vmm/mlock.c
  src/vmm/mmap.c
  src/vmm/mremap.c
  src/vmm/newcomers.c
  src/vmm/object.c
  src/vmm/oom.c
  src/vmm/page_tree.c
  src/vmm/pressure.c
  src/vmm/reclaim.c
  src/vmm/region.c
  src/vmm/region_check.c
  src/vmm/region_enter.c
  src/vmm/region_gap.c
  src/vmm/region_tree.c
  src/vmm/rmap.c
  src/vmm/space.c
  src/vmm/user_copy.c
  src/vmm/user_frame.c
  src/vmm/valloc.c
  src/vmm/vmm.c
  src/vmm/vmm_fsck.c
  src/vmm/watermark.c)
