# What a test costs on a preset, in one place. Behind the last test of a folder: long searches do
# the whole on debug and m32, and an nth on the presets that script/test runs by itself, where the
# same costs many times as much or is done for each of several builds.
# SPDX-License-Identifier: MIT
if(NEOMM_SANITIZE)
  set(neomm_default_share 10)
elseif(NEOMM_COVERAGE AND CMAKE_SIZEOF_VOID_P EQUAL 4)
  set(neomm_default_share 8)
elseif(NEOMM_COVERAGE OR NOT NEOMM_INSTRUMENTED)
  set(neomm_default_share 4)
else()
  set(neomm_default_share 1)
endif()
set(NEOMM_SHARE ${neomm_default_share} CACHE STRING
  "Tests do one nth of their long histories and schedules")

# Those that look at NEOMM_SHARE (test/share.h), and longest first, so that no long one is left
# for the end: COST is CPU seconds of the whole, about.
set(neomm_shared bootmap_fuzz heap_guard_sched heap_sched heap_switch hostile pager_model pager_sched
  paging_model paging_sched pmm_races pmm_sched policy_set_sched region_tree rmap sim_pcid swap_cache
  swap_pool_sched swap_submit vmm_ahead_sched vmm_calls vmm_fork vmm_fork_sched vmm_histories vmm_huge
  vmm_meet_sched vmm_move_sched vmm_object vmm_sched vmm_swapoff vmm_swapoff_sched vmm_threads)
set(neomm_costs lint-tidy 90 pager_sched 60 vmm_swapoff 50 vmm_fork_sched 40 vmm_meet_sched 40
  vmm_move_sched 40 vmm_sched 40 vmm_swapoff_sched 40 lint-warnings 35 vmm_ahead_sched 35 pmm_sched 30
  vmm_fork 30 vmm_threads 30 lint-mutate 25 pager_model 25 paging_sched 25 swap_pool_sched 25
  consume-source_list 20 pmm_races 20 policy_set_sched 20 swap_cache 20 vmm 20 nbd 20 hostile 15
  mmu_qemu 15 region_tree 15 replay_exact 15 rmap 15 vmm_calls 15 vmm_histories 15 pager 10
  paging_model 10 pmm_cache 10 pmm_model 10 swap_integrity 10 vmm_io 10 vmm_object 10)

get_property(neomm_tests DIRECTORY PROPERTY TESTS)
foreach(test IN LISTS neomm_shared)
  if(test IN_LIST neomm_tests AND NEOMM_SHARE GREATER 1)
    set_property(TEST ${test} APPEND PROPERTY ENVIRONMENT NEOMM_SHARE=${NEOMM_SHARE})
  endif()
endforeach()
while(neomm_costs)
  list(POP_FRONT neomm_costs test cost)
  if(test IN_LIST neomm_tests)
    set_property(TEST ${test} PROPERTY COST ${cost})
  endif()
endwhile()

# Counters of lines are not atomic, which would make the frame allocator's tests take eight times
# as long; what threads count goes where script/coverage does not look.
if(NEOMM_COVERAGE)
  foreach(test IN LISTS neomm_tests)
    get_property(neomm_labels TEST ${test} PROPERTY LABELS)
    if("stress" IN_LIST neomm_labels OR "longer" IN_LIST neomm_labels)
      set_property(TEST ${test} APPEND PROPERTY ENVIRONMENT
        GCOV_PREFIX=${PROJECT_BINARY_DIR}-uncounted)
    endif()
  endforeach()
endif()
