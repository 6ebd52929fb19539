// Large blocks in a range of addresses of their own, of which the process has no more pages than it needs.
//
// Between blocks that are kept lie holes, whose pages the process would keep. Before blocks take more pages of the range
// than they ever had, those of holes are handed back to the system, as many as are wanted: huge ones where the system
// has them, for which one page fault is enough when they are taken again.
#pragma once

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <map>
#include <mutex>
#include <vector>

class LargeBlocks {
 public:
  static constexpr std::size_t kSmallest = std::size_t{1} << 20;

  LargeBlocks() {
    if (counts_addresses()) {
      return;
    }
    // Addresses, not memory: a page is taken when it is first written.
    const int protection = PROT_READ | PROT_WRITE, flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void* range = mmap(nullptr, range_ + kPage, protection, flags, -1, 0);
    if (range == MAP_FAILED) {
      return;
    }
    const auto first = reinterpret_cast<std::uintptr_t>(range);
    base_ = static_cast<char*>(range) + (kPage - first % kPage) % kPage;
    madvise(base_, range_, MADV_HUGEPAGE);
    holes_[0] = range_;
    is_there_.resize(range_ / kPage);
  }

  bool has_range() const { return base_ != nullptr; }

  // What is larger than the machine's memory malloc refuses.
  bool suits(std::size_t bytes) const { return has_range() && bytes >= kSmallest && bytes <= range_ / kTimesMemory; }

  bool has(const void* block) const {
    const auto* address = static_cast<const char*>(block);
    return has_range() && address >= base_ && address < base_ + range_;
  }

  // A block at a multiple of 64 bytes in the smallest hole that is large enough, or null where there is none.
  void* take(std::size_t bytes) {
    const std::size_t size = (bytes + kGrain - 1) / kGrain * kGrain + kGrain;
    const std::lock_guard<std::mutex> alone(mutex_);
    auto hole = holes_.end();
    for (auto one = holes_.begin(); one != holes_.end(); ++one) {
      if (one->second >= size && (hole == holes_.end() || one->second < hole->second)) {
        hole = one;
      }
    }
    if (hole == holes_.end()) {
      return nullptr;
    }
    const std::size_t first = hole->first, rest = hole->second - size;
    holes_.erase(hole);
    if (rest > 0) {
      holes_[first + size] = rest;
    }
    sizes_[first] = size;
    take_pages(first, size);
    return base_ + first;
  }

  void give_back(void* block) {
    const std::lock_guard<std::mutex> alone(mutex_);
    const auto own = sizes_.find(static_cast<std::size_t>(static_cast<char*>(block) - base_));
    if (own == sizes_.end()) {  // given back twice
      std::abort();
    }
    std::size_t first = own->first, size = own->second;
    sizes_.erase(own);
    auto next = holes_.lower_bound(first);
    if (next != holes_.end() && next->first == first + size) {
      size += next->second;
      next = holes_.erase(next);
    }
    if (next != holes_.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second == first) {
        first = before->first;
        size += before->second;
        holes_.erase(before);
      }
    }
    holes_[first] = size;
  }

  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  static constexpr std::size_t kTimesMemory = 4;  // so many addresses, that a hole is found for every block
  static constexpr std::size_t kPage = std::size_t{2} << 20;
  static constexpr std::size_t kGrain = 64;  // one more for each block: they begin at many places of a page

  static std::size_t memory_of_machine() {
    return static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  }

  // Whether addresses are limited, or counted as memory (vm.overcommit_memory=2).
  static bool counts_addresses() {
    rlimit limit{};
    if (getrlimit(RLIMIT_AS, &limit) != 0 || limit.rlim_cur != RLIM_INFINITY) {
      return true;
    }
    int mode = 0;
    if (std::FILE* file = std::fopen("/proc/sys/vm/overcommit_memory", "r")) {
      if (std::fscanf(file, "%d", &mode) != 1) {
        mode = 2;
      }
      std::fclose(file);
    }
    return mode == 2;
  }

  // The pages in which a block lies will be there.
  void take_pages(std::size_t first, std::size_t size) {
    const std::size_t begin = first / kPage, end = (first + size - 1) / kPage + 1;
    const auto fresh = static_cast<std::size_t>(std::count(is_there_.begin() + begin, is_there_.begin() + end, false));
    if (pages_ + fresh > most_) {
      hand_back(pages_ + fresh - most_);
    }
    std::fill(is_there_.begin() + begin, is_there_.begin() + end, true);
    pages_ += fresh;
    most_ = std::max(most_, pages_);
    end_ = std::max(end_, end);
  }

  // Hands back so many pages that lie in holes as a whole, or all that there are, from the last hole on.
  void hand_back(std::size_t wanted) {
    for (auto hole = holes_.rbegin(); hole != holes_.rend() && wanted > 0; ++hole) {
      const std::size_t begin = (hole->first + kPage - 1) / kPage, end = (hole->first + hole->second) / kPage;
      for (std::size_t page = std::min(end, end_); page > begin && wanted > 0; --page) {
        if (is_there_[page - 1] && madvise(base_ + (page - 1) * kPage, kPage, MADV_DONTNEED) == 0) {
          is_there_[page - 1] = false;
          --pages_;
          --wanted;
        }
      }
    }
  }

  const std::size_t range_ = kTimesMemory * (memory_of_machine() / kPage * kPage);
  std::mutex mutex_;
  char* base_ = nullptr;
  std::map<std::size_t, std::size_t> holes_, sizes_;  // of holes and of blocks, by where they begin
  std::vector<bool> is_there_;                        // of each page
  std::size_t pages_ = 0, most_ = 0;                  // that are there, and that ever were
  std::size_t end_ = 0;                               // behind the last page that ever was
};
