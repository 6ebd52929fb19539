// PyTorch's tensors on a CPU out of plain malloc.
//
// PyTorch asks glibc for blocks at multiples of 64 bytes (posix_memalign). For such a block glibc looks for 96 bytes more
// than were asked for and gives back what it does not need. What a block leaves behind is then too small for the next
// block of its size, and a training's maps, of few sizes over and over, come to lie in twice the memory that they need.
// Here the room for the alignment is part of the block, so that a block fits where one of its size was.
//
// Holes are left all the same, between blocks that are kept. Where memory is dear, the pages of all holes are handed back
// before the process would take more than it ever has: the next to use them gets fresh ones.

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <fcntl.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <mutex>

namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::uint32_t kOurs = 0xA7205;

// In front of the data. In front of a block of glibc stands its size, which is far below kOurs << 32.
struct Tag {
  std::uint32_t offset;  // of the data in the block
  std::uint32_t ours;
};

void give_back(void* data) {
  if (data == nullptr) {
    return;
  }
  c10::profiledCPUMemoryReporter().Delete(data);
  const Tag tag = static_cast<const Tag*>(data)[-1];
  if (tag.ours == kOurs) {
    std::free(static_cast<char*>(data) - tag.offset);
  } else {  // oneDNN gives back here what it took before this was PyTorch's allocator
    c10::free_cpu(data);
  }
}

// Bytes of memory that this process has now; 0 where that cannot be told.
std::size_t resident() {
  const int file = open("/proc/self/statm", O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    return 0;
  }
  char text[128] = {};
  const ssize_t size = read(file, text, sizeof(text) - 1);
  close(file);
  char* second = size > 0 ? std::strchr(text, ' ') : nullptr;
  return second == nullptr ? 0 : std::strtoull(second, nullptr, 10) * static_cast<std::size_t>(getpagesize());
}

class Holes {
 public:
  // Hands pages back unless there is room, below the most that this process has had, for a block of so many bytes.
  void make_room(std::size_t bytes) {
    if (bytes < kLarge) {
      return;
    }
    const std::unique_lock<std::mutex> alone(mutex_, std::try_to_lock);
    if (!alone) {  // another thread is at it
      return;
    }
    taken_ += bytes;
    at_most_ += bytes;  // where no block lies in pages that were there
    if (at_most_ <= most_) {
      return;
    }
    at_most_ = resident() + bytes;
    if (at_most_ > most_ && taken_ >= kBetween) {
      malloc_trim(0);
      taken_ = 0;
      at_most_ = resident() + bytes;
    }
    most_ = std::max(most_, at_most_);
  }

 private:
  static constexpr std::size_t kLarge = 1 << 20;
  static constexpr std::size_t kBetween = 32 << 20;  // so many bytes are taken from one time to the next

  std::mutex mutex_;
  std::size_t taken_ = 0, at_most_ = 0, most_ = 0;
};

Holes holes;
std::atomic<bool> hands_holes_back = false;

class BlockAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    if (bytes == 0) {
      return {nullptr, nullptr, &give_back, cpu};
    }
    if (hands_holes_back) {
      holes.make_room(bytes);
    }
    char* block = bytes <= PTRDIFF_MAX - kAlignment - sizeof(Tag)
        ? static_cast<char*>(std::malloc(bytes + kAlignment + sizeof(Tag)))
        : nullptr;
    if (block == nullptr) {
      c10::profiledCPUMemoryReporter().OutOfMemory(bytes);
    }
    TORCH_CHECK(block != nullptr, "can't allocate memory: you tried to allocate ", bytes, " bytes");
    const auto first = reinterpret_cast<std::uintptr_t>(block) + sizeof(Tag);
    char* data = block + sizeof(Tag) + (kAlignment - first % kAlignment) % kAlignment;
    reinterpret_cast<Tag*>(data)[-1] = {static_cast<std::uint32_t>(data - block), kOurs};
    c10::profiledCPUMemoryReporter().New(data, bytes);
    return {data, data, &give_back, cpu};
  }

  c10::DeleterFnPtr raw_deleter() const override {
    return &give_back;
  }

  void copy_data(void* to, const void* from, std::size_t bytes) const override {
    default_copy_data(to, from, bytes);
  }
};

BlockAllocator allocator;

}  // namespace

// Whether it is PyTorch's allocator from now on: not where another library has registered its own with a higher priority.
extern "C" int atrous_use_block_allocator(bool is_memory_dear) {
  hands_holes_back = is_memory_dear;
  c10::SetCPUAllocator(&allocator, /*priority=*/1);
  return c10::GetCPUAllocator() == &allocator;
}
