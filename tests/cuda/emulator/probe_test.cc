// The emulator itself: that it catches what it is there to catch, and that its instructions do what
// their definitions say.
#include <cuda_fp8.h>
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <random>

#include "probe_kernels.h"

namespace elan::emulator {

void PrintTo(Format f, std::ostream* out) {
  static const char* const kNames[] = {"f16", "bf16", "tf32", "e4m3", "s8", "u8"};
  *out << kNames[static_cast<int>(f)];
}

namespace {

void expect_contains(const std::string& text, const std::string& part) {
  EXPECT_NE(text.find(part), std::string::npos)
      << "found \"" << text << "\", not \"" << part << '"';
}

std::string error_of(const std::function<void()>& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.what();
  }
  return "";
}

std::string reverse_with(Fault fault, Order order = Order::ascending) {
  Memory in("the input", 64 * 4), out("the output", 128 * 4);
  std::vector<float> values(64);
  for (int i = 0; i < 64; ++i) values[i] = static_cast<float>(i);
  in.fill(values.data(), 256);
  ReverseArgs args{reinterpret_cast<const float*>(in.data()), reinterpret_cast<float*>(out.data())};
  set_order(order);
  const std::string error = error_of([&] {
    if (fault == Fault::early) {  // something must have been written before
      launch_reverse(Fault::none, args);
      args.in = args.out;
    }
    launch_reverse(fault, args);
  });
  set_order(Order::ascending);
  if (error.empty()) {
    for (int i = 0; i < 128; ++i) {
      EXPECT_EQ(reinterpret_cast<const float*>(out.data())[i], 63 - i % 64);
    }
  }
  return error;
}

struct Expected {
  Fault fault;
  const char* text;
};
std::ostream& operator<<(std::ostream& out, const Expected& e) {
  return out << static_cast<int>(e.fault) << ", " << e.text;
}

class Faults : public testing::TestWithParam<Expected> {};

TEST_P(Faults, AreNamed) {
  for (const Order order : {Order::ascending, Order::descending}) {
    expect_contains(reverse_with(GetParam().fault, order), GetParam().text);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Kernel, Faults,
    testing::Values(Expected{Fault::no_copy_wait, "asynchronous copy"},
                    Expected{Fault::no_copy_commit, "asynchronous copy"},
                    Expected{Fault::past_global,
                             "read of 4 bytes outside of all memory: at byte 256 of the input"},
                    Expected{Fault::past_shared, "the launch asked for 256"},
                    Expected{Fault::unwritten_global, "the output: byte"},
                    Expected{Fault::unwritten_shared, "is read but was never written"},
                    Expected{Fault::misaligned, "misaligned"},
                    Expected{Fault::index, "is outside of its array"},
                    Expected{Fault::half_a_barrier, "deadlock"},
                    Expected{Fault::diverged, "diverge"},
                    Expected{Fault::no_warp_barrier, "shared memory"},
                    Expected{Fault::overwritten, "race"},
                    Expected{Fault::blocks_share, "the output: race"},
                    Expected{Fault::early, "the output is read before wait_for_previous()"}));

TEST(Emulator, RunsWhatIsRight) {
  EXPECT_EQ(reverse_with(Fault::none, Order::ascending), "");
  EXPECT_EQ(reverse_with(Fault::none, Order::descending), "");
}

// Depending on who runs first, what was never copied is read, or what is on its way.
TEST(Emulator, MissesNoBarrier) {
  EXPECT_NE(reverse_with(Fault::no_barrier, Order::ascending), "");
  EXPECT_NE(reverse_with(Fault::no_barrier, Order::descending), "");
}

TEST(Emulator, LoadsMatrices) {
  Memory in("rows", 512), out("registers", 512);
  std::uint16_t rows[32][8];
  for (int i = 0; i < 256; ++i) rows[i / 8][i % 8] = static_cast<std::uint16_t>(i);
  in.fill(rows, sizeof rows);
  for (const bool transposed : {false, true}) {
    launch_load_matrices(reinterpret_cast<const std::uint16_t*>(in.data()),
                         reinterpret_cast<std::uint32_t*>(out.data()), transposed);
    const auto* r = reinterpret_cast<const std::uint16_t*>(out.data());
    for (int i = 0; i < 256; ++i) {
      const int lane = i / 8, matrix = i % 8 / 2, half = i % 2;
      const int row = lane / 4, column = lane % 4 * 2 + half;
      EXPECT_EQ(r[i], transposed ? rows[matrix * 8 + column][row] : rows[matrix * 8 + row][column]);
    }
  }
}

// A number of a format and its value.
struct Number {
  std::uint32_t bits;
  double value;
};
Number random_number(Format f, std::mt19937& random) {
  const auto u = static_cast<std::uint32_t>(random());
  const auto small = static_cast<float>(static_cast<int>(u % 33) - 16) / 8;
  switch (f) {
    case Format::s8:
      return {u & 255, static_cast<double>(static_cast<std::int8_t>(u & 255))};
    case Format::u8:
      return {u & 255, static_cast<double>(u & 255)};
    case Format::e4m3: {
      const std::uint32_t b = (u & 127) == 127 ? 0 : u & 255;
      const __half_raw h = __nv_cvt_fp8_to_halfraw(static_cast<__nv_fp8_storage_t>(b), __NV_E4M3);
      return {b, static_cast<double>(__half2float(h))};
    }
    case Format::f16:
      return {__half_as_ushort(__float2half_rn(small)), small};
    case Format::bf16:
      return {__bfloat16_as_ushort(__float2bfloat16_rn(small)), small};
    default:
      return {std::bit_cast<std::uint32_t>(small) | 0x1fff, small};  // the lowest bits do not count
  }
}
int bytes_of(Format f) {
  return f == Format::tf32 ? 4 : f == Format::f16 || f == Format::bf16 ? 2 : 1;
}

struct Matrix {
  int k = 0;
  std::vector<Number> numbers;  // [row or column][k]
  [[nodiscard]] const Number& at(int row, int i) const { return numbers[row * k + i]; }
};
Matrix random_matrix(Format f, int rows, std::mt19937& random) {
  Matrix m{32 / bytes_of(f), {}};
  for (int i = 0; i < rows * m.k; ++i) m.numbers.push_back(random_number(f, random));
  return m;
}
// The register that begins at k, of 4 bytes.
std::uint32_t word_of(const Matrix& m, Format f, int row, int k) {
  std::uint32_t w = 0;
  const int bytes = bytes_of(f);
  for (int i = 0; i < 4 / bytes; ++i) w |= m.at(row, k + i).bits << (8 * bytes * i);
  return w;
}
void expect_product(const Matrix& a, const Matrix& b, int row, int column, Format f,
                    std::uint32_t found) {
  double sum = 0, size = 0;
  for (int k = 0; k < a.k; ++k) {
    sum += a.at(row, k).value * b.at(column, k).value;
    size += std::abs(a.at(row, k).value * b.at(column, k).value);
  }
  if (f == Format::s8 || f == Format::u8) {
    EXPECT_EQ(static_cast<std::int32_t>(found), static_cast<std::int32_t>(sum));
  } else {
    EXPECT_NEAR(std::bit_cast<float>(found), sum, size * 1e-6);
  }
}
// Register j of a lane's A, from row `first` on: rows g and g + 8, then the same 16 bytes of k on.
std::uint32_t a_word(const Matrix& a, Format f, int first, int lane, int j) {
  const int per = 4 / bytes_of(f);
  return word_of(a, f, first + lane / 4 + j % 2 * 8, j / 2 * 4 * per + lane % 4 * per);
}

class Products : public testing::TestWithParam<std::pair<Format, Format>> {};

TEST_P(Products, AreThoseOfMatrices) {
  const auto [af, bf] = GetParam();
  std::mt19937 random(7);
  const Matrix a = random_matrix(af, 16, random), b = random_matrix(bf, 8, random);
  Memory am("a", 512), bm("b", 256), cm("c", 512);
  std::uint32_t aw[32][4], bw[32][2];
  const int per = 4 / bytes_of(bf);
  for (int l = 0; l < 32; ++l) {
    for (int j = 0; j < 4; ++j) aw[l][j] = a_word(a, af, 0, l, j);
    for (int j = 0; j < 2; ++j) bw[l][j] = word_of(b, bf, l / 4, j * 4 * per + l % 4 * per);
  }
  am.fill(aw, sizeof aw);
  bm.fill(bw, sizeof bw);
  const std::vector<std::byte> zeros(512);
  cm.fill(zeros.data(), 512);
  launch_multiply({af, bf, reinterpret_cast<std::uint32_t*>(am.data()),
                   reinterpret_cast<std::uint32_t*>(bm.data()),
                   reinterpret_cast<std::uint32_t*>(cm.data())});
  const auto* c = reinterpret_cast<const std::uint32_t*>(cm.data());
  for (int i = 0; i < 128; ++i) {
    expect_product(a, b, i / 16 + i % 4 / 2 * 8, i / 4 % 4 * 2 + i % 2, af, c[i]);
  }
}

INSTANTIATE_TEST_SUITE_P(
    Formats, Products,
    testing::Values(std::pair(Format::f16, Format::f16), std::pair(Format::bf16, Format::bf16),
                    std::pair(Format::tf32, Format::tf32), std::pair(Format::e4m3, Format::e4m3),
                    std::pair(Format::s8, Format::s8), std::pair(Format::u8, Format::s8)));

// Rows of 32 bytes as wgmma finds them: where row r has its 16 bytes u.
using Place = std::function<int(int row, int unit)>;
std::string run_async(Format f, bool a_in_memory, int bytes, const Place& place, int b_at,
                      std::uint64_t descriptor, char forget = 0) {
  std::mt19937 random(3);
  const Matrix a = random_matrix(f, 64, random), b = random_matrix(f, 16, random);
  std::vector<std::byte> memory(static_cast<std::size_t>(bytes));
  const auto put = [&](const Matrix& m, int rows, int at) {
    for (int r = 0; r < rows; ++r) {
      for (int w = 0; w < 8; ++w) {
        const std::uint32_t word = word_of(m, f, r, w * 4 / bytes_of(f));
        std::memcpy(memory.data() + at + place(r, w / 4) + w % 4 * 4, &word, 4);
      }
    }
  };
  put(b, 16, b_at);
  if (a_in_memory) put(a, 64, 0);
  std::uint32_t aw[128][4];
  for (int t = 0; t < 128; ++t) {
    for (int j = 0; j < 4; ++j) aw[t][j] = a_word(a, f, t / 32 * 16, t % 32, j);
  }
  Memory am("a", sizeof aw), mm("memory", memory.size()), dm("d", 128 * 32);
  am.fill(aw, sizeof aw);
  mm.fill(memory.data(), memory.size());
  AsyncArgs args{f,
                 a_in_memory ? nullptr : reinterpret_cast<std::uint32_t*>(am.data()),
                 mm.data(),
                 bytes,
                 descriptor,
                 descriptor + (static_cast<unsigned>(b_at) >> 4),
                 reinterpret_cast<std::uint32_t*>(dm.data()),
                 forget};
  const std::string error = error_of([&] { launch_async(args); });
  const auto* d = reinterpret_cast<const std::uint32_t*>(dm.data());
  if (!error.empty()) return error;
  if (forget == 'p') return std::isnan(std::bit_cast<float>(d[0])) ? "NaN" : "a number";
  for (int i = 0; i < 1024; ++i) {
    const int t = i / 8, l = t % 32, row = t / 32 * 16 + l / 4 + i % 4 / 2 * 8;
    expect_product(a, b, row, i / 4 % 2 * 8 + l % 4 * 2 + i % 2, f, d[i]);
  }
  return "";
}
// Core matrices one after another: the two of a row 128 bytes apart, the next eight rows 256.
int core_place(int row, int unit) {
  return row / 8 * 256 + unit * 128 + row % 8 * 16;
}
constexpr std::uint64_t kCores = std::uint64_t{128 >> 4} << 16 | std::uint64_t{256 >> 4} << 32;

TEST(AsyncProducts, ReadCoreMatrices) {
  for (const Format f : {Format::f16, Format::bf16, Format::tf32, Format::s8, Format::e4m3}) {
    EXPECT_EQ(run_async(f, false, 512, core_place, 0, kCores), "");
    EXPECT_EQ(run_async(f, true, 2048 + 512, core_place, 2048, kCores), "");
  }
}

// Rows of 128, 64 or 32 bytes, whose pieces of 16 change places with the row.
TEST(AsyncProducts, ReadSwizzledRows) {
  for (int mode = 1; mode <= 3; ++mode) {
    const int pitch = 256 >> mode;
    const auto place = [pitch](int row, int unit) {
      const int at = row * pitch + unit * 16;
      return at ^ (at / 128 % (pitch / 16) * 16);
    };
    const std::uint64_t rows =
        static_cast<std::uint64_t>(pitch * 8 / 16) << 32 | static_cast<std::uint64_t>(mode) << 62;
    EXPECT_EQ(run_async(Format::f16, false, 16 * pitch, place, 0, rows), "") << mode;
    EXPECT_EQ(run_async(Format::s8, true, 80 * pitch, place, 64 * pitch, rows), "") << mode;
  }
}

TEST(AsyncProducts, MustBeFencedAndWaitedFor) {
  expect_contains(run_async(Format::f16, false, 512, core_place, 0, kCores, 'w'),
                  "asynchronous copy");
  expect_contains(run_async(Format::f16, false, 512, core_place, 0, kCores, 'f'),
                  "without wgmma.fence");
  EXPECT_EQ(run_async(Format::f16, false, 512, core_place, 0, kCores, 'p'), "NaN");
  expect_contains(run_async(Format::f16, false, 512, core_place, 0, kCores, 's'),
                  "without fence.proxy.async");
  EXPECT_EQ(run_async(Format::f16, false, 512, core_place, 0, kCores, 'S'), "");
}

}  // namespace
}  // namespace elan::emulator
