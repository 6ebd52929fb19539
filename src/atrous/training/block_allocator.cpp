// PyTorch's tensors on a CPU out of plain malloc.
//
// PyTorch asks glibc for blocks at multiples of 64 bytes (posix_memalign). For such a block glibc looks for 96 bytes more
// than were asked for and gives back what it does not need. What a block leaves behind is then too small for the next
// block of its size, and a training's maps, of few sizes over and over, come to lie in twice the memory that they need.
// Here the room for the alignment is part of the block, so that a block fits where one of its size was. Large blocks are
// not malloc's at all (`large_blocks.h`).

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <pthread.h>

#include <cstdint>
#include <cstdlib>

#include "large_blocks.h"

namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::uint32_t kOurs = 0xA7205;

// In front of the data. In front of a block of glibc stands its size, which is far below kOurs << 32.
struct Tag {
  std::uint32_t offset;  // of the data in the block
  std::uint32_t ours;
};

LargeBlocks* large_blocks = nullptr;  // never destroyed: PyTorch gives blocks back until the process is gone

void give_back(void* data) {
  if (data == nullptr) {
    return;
  }
  c10::profiledCPUMemoryReporter().Delete(data);
  if (large_blocks != nullptr && large_blocks->has(data)) {
    large_blocks->give_back(data);
    return;
  }
  const Tag tag = static_cast<const Tag*>(data)[-1];
  if (tag.ours == kOurs) {
    std::free(static_cast<char*>(data) - tag.offset);
  } else {  // oneDNN gives back here what it took before this was PyTorch's allocator
    c10::free_cpu(data);
  }
}

class BlockAllocator final : public c10::Allocator {
 public:
  c10::DataPtr allocate(std::size_t bytes) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    if (bytes == 0) {
      return {nullptr, nullptr, &give_back, cpu};
    }
    if (large_blocks->suits(bytes)) {
      if (void* data = large_blocks->take(bytes)) {
        c10::profiledCPUMemoryReporter().New(data, bytes);
        return {data, data, &give_back, cpu};
      }
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

extern "C" {

// Whether it is PyTorch's allocator from now on: not where another library has registered its own with a higher priority.
int atrous_use_block_allocator() {
  if (large_blocks == nullptr) {
    large_blocks = new LargeBlocks;
    // A process may be forked while another of its threads takes a block.
    pthread_atfork([] { large_blocks->lock(); }, [] { large_blocks->unlock(); }, [] { large_blocks->unlock(); });
  }
  c10::SetCPUAllocator(&allocator, /*priority=*/1);
  return c10::GetCPUAllocator() == &allocator;
}

// Whether large blocks lie in a range of their own, once it is PyTorch's allocator.
int atrous_has_large_blocks() {
  return large_blocks != nullptr && large_blocks->has_range();
}

}  // extern "C"
