// The reader of safetensors files: what it accepts, and what it says about everything else.
#include "model/safetensors.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <bit>
#include <filesystem>
#include <fstream>
#include <limits>
#include <utility>

#include "support/errors.h"
#include "support/weights_files.h"

namespace elan::test {
namespace {

std::string parse_error(const Bytes& file) {
  return error_of(ErrorKind::model, [&] { Safetensors::parse("m.safetensors", file); });
}

// A header with one tensor `t`, and the values after it.
Bytes one_tensor(const std::string& dtype, const std::string& shape, const std::string& offsets,
                 std::size_t value_bytes) {
  return with_header(R"({"t":{"dtype":")" + dtype + R"(","shape":)" + shape +
                         R"(,"data_offsets":)" + offsets + "}}",
                     Bytes(value_bytes));
}

template <typename Stored>
std::vector<float> decoded(const std::string& dtype, const std::vector<Stored>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  WeightsFile file;
  file.tensors["t"] = {dtype, {values.size()}, Bytes(bytes.begin(), bytes.end())};
  return Safetensors::parse("m", serialise(file)).floats("t");
}

TEST(Safetensors, KeepsTensorsAndMetadata) {
  WeightsFile file;
  file.metadata = {{"format", "pt"}, {"\"quoted\" \u00e9", "any text"}};
  file.tensors["b"] = f32_tensor({2, 1}, {1.5F, -2.0F});
  file.tensors["a"] = {"U8", {3}, {std::byte{1}, std::byte{2}, std::byte{255}}};
  file.tensors["empty"] = {"F32", {0, 4}, {}};
  file.tensors["scalar"] = f32_tensor({}, {7});
  const Bytes bytes = serialise(file);
  const auto read = Safetensors::parse("name", bytes);
  EXPECT_EQ(read.metadata(), file.metadata);
  EXPECT_EQ(read.entries().size(), 4U);
  EXPECT_EQ(read.entry("b").shape, (TensorShape{2, 1}));
  EXPECT_EQ(read.floats("b"), (std::vector<float>{1.5F, -2.0F}));
  EXPECT_EQ(read.bytes("a").size(), 3U);
  EXPECT_EQ(read.bytes("a")[2], std::byte{255});
  EXPECT_TRUE(read.floats("empty").empty());
  EXPECT_EQ(read.floats("scalar"), std::vector<float>{7});
  EXPECT_EQ(read.file_size(), bytes.size());
}

TEST(Safetensors, DecodesHalfPrecision) {
  EXPECT_EQ(decoded<std::uint16_t>("F16", {0x3C00, 0xC000, 0x7BFF, 0x0001, 0x03FF, 0x8000, 0x3555}),
            (std::vector<float>{1, -2, 65504, 5.9604645e-8F, 6.0975552e-5F, 0, 0.33325195F}));
  EXPECT_EQ(decoded<std::uint16_t>("BF16", {0x3F80, 0xC000, 0x3EAB, 0x0080}),
            (std::vector<float>{1, -2, 0.33398438F, 1.17549435e-38F}));
  EXPECT_EQ(decoded<double>("F64", {0.1, -3e38, 1e-300}), (std::vector<float>{0.1F, -3e38F, 0}));
}

TEST(Safetensors, RefusesValuesThatAreNotFinite) {
  const auto error = [](const std::string& dtype, const auto& values) {
    return error_of(ErrorKind::model, [&] { decoded(dtype, values); });
  };
  EXPECT_EQ(error("F32", std::vector<float>{0, 1, NAN}),
            "m: t: expected finite values, found NaN at index 2");
  EXPECT_EQ(error("F32", std::vector<float>{-INFINITY}),
            "m: t: expected finite values, found infinity at index 0");
  EXPECT_EQ(error("F64", std::vector<double>{0, 1e39}),
            "m: t: expected finite values, found infinity at index 1");
  EXPECT_EQ(error("F16", std::vector<std::uint16_t>{0x7C00}),
            "m: t: expected finite values, found infinity at index 0");
  EXPECT_EQ(error("F16", std::vector<std::uint16_t>{0, 0x7E00}),
            "m: t: expected finite values, found NaN at index 1");
  EXPECT_EQ(error("BF16", std::vector<std::uint16_t>{0x7FC0}),
            "m: t: expected finite values, found NaN at index 0");
  EXPECT_EQ(error("I32", std::vector<std::int32_t>{1}),
            "m: t: expected type F32, F16, BF16 or F64, found I32");
}

TEST(Safetensors, NamesOtherFileFormats) {
  const std::vector<std::pair<std::string, std::string>> formats{
      {"", "an empty file"},
      {std::string("PK\x03\x04 archive/data.pkl", 20), "a zip archive such as a PyTorch .pth"},
      {"\x80\x02}q\x01(X\x05", "a Python pickle"},
      {"version https://git-lfs.github.com/spec/v1\noid sha256:", "a git-lfs pointer"},
      {"<!DOCTYPE html><html>", "an HTML or XML page"},
      {"\n <html>404</html>", "an HTML or XML page"},
      {"{\"error\": \"not found\"}", "a JSON text"},
      {"\x08\x08\x12\x07pytorch\x1A\x05", "an ONNX model"},
      {"\x89PNG\r\n\x1A\n", "a picture"},
      {"\x1F\x8B\x08", "a gzip archive"},
      {"\x89HDF\r\n\x1A\n", "an HDF5 file"},
      {"GGUF\x03", "a GGUF file"},
  };
  for (const auto& [start, name] : formats) {
    for (const std::size_t padding : {0, 100}) {
      if (start.empty() && padding > 0) continue;
      const std::string error = parse_error(bytes_of(start + std::string(padding, '\n')));
      EXPECT_TRUE(error.starts_with("m.safetensors: expected a safetensors file, found " + name))
          << error;
    }
  }
}

// The length comes first and may look like anything: "PK", "{" or "<" among others.
TEST(Safetensors, ReadsHeadersOfEveryLength) {
  for (std::size_t padding = 0; padding < 70'000; padding += padding < 300 ? 1 : 257) {
    const Bytes file = with_header("{" + std::string(padding, ' ') + "}");
    EXPECT_NO_THROW(Safetensors::parse("m", file)) << padding;
  }
}

TEST(Safetensors, ChecksTheHeaderLength) {
  EXPECT_EQ(parse_error(Bytes(5)),
            "m.safetensors: expected a safetensors file of at least 8 bytes, found 5 bytes");
  const auto with_length = [](std::uint64_t length, std::size_t rest) {
    const auto prefix = std::as_bytes(std::span(&length, 1));
    Bytes file(prefix.begin(), prefix.end());
    file.resize(8 + rest);
    return file;
  };
  EXPECT_EQ(parse_error(with_length(17, 16)),
            "m.safetensors: header: expected 17 bytes, found 16 (truncated?)");
  EXPECT_EQ(
      parse_error(with_length(100'000'001, 16)),
      "m.safetensors: header length: expected at most 100000000 bytes, found 100000001 (not a "
      "safetensors file?)");
  EXPECT_NE(parse_error(with_length(std::numeric_limits<std::uint64_t>::max(), 16)).find("at most"),
            std::string::npos);
  EXPECT_NE(parse_error(with_length(0, 0)).find("expected JSON"), std::string::npos);
}

TEST(Safetensors, ChecksTheHeader) {
  const std::vector<std::pair<std::string, std::string>> headers{
      {"{", "header: expected JSON, found an error at byte"},
      {"{} {}", "header: expected JSON, found an error at byte"},
      {"{\"a\xFF\":1}", "header: expected JSON, found an error at byte"},
      {"[]", "header: expected a JSON object, found an array"},
      {"3", "header: expected a JSON object, found a number"},
      {"null", "header: expected a JSON object, found null"},
      {R"({"t":3})", "t: expected an object, found a number"},
      {R"({"t":[]})", "t: expected an object, found an array"},
      {R"({"t":{}})", "t: expected dtype, shape and data_offsets, found no dtype"},
      {R"({"t":{"dtype":"F32","shape":[]}})",
       "t: expected dtype, shape and data_offsets, found no data_offsets"},
      {R"({"t":{"dtype":"F32","data_offsets":[0,0]}})",
       "t: expected dtype, shape and data_offsets, found no shape"},
      {R"({"t":{"dtype":"F32","shape":[],"data_offsets":[0]}})",
       "t: expected dtype, shape and data_offsets, found no data_offsets"},
      {R"({"t":{"dtype":"F32","shape":[],"data_offsets":[0,0,0]}})",
       "t: data_offsets: expected two numbers, found more"},
      {R"({"t":{"dtype":7,"shape":[],"data_offsets":[0,0]}})",
       "t: expected dtype, shape and data_offsets once, found a number for dtype"},
      {R"({"t":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,0]}})",
       "t: expected dtype, shape and data_offsets once, found a text for dtype"},
      {R"({"t":{"dtype":"F32","shape":[],"shape":[],"data_offsets":[0,0]}})",
       "t: expected dtype, shape and data_offsets once, found an array for shape"},
      {R"({"t":{"dtype":"F32","shape":[-1],"data_offsets":[0,0]}})",
       "t: shape: expected sizes, found -1"},
      {R"({"t":{"dtype":"F32","shape":[1.5],"data_offsets":[0,0]}})",
       "t: shape: expected sizes, found 1.5"},
      {R"({"t":{"dtype":"F32","shape":[[1]],"data_offsets":[0,0]}})",
       "t: shape: expected sizes, found an array"},
      {R"({"t":{"dtype":"F32","shape":[99999999999999999999],"data_offsets":[0,0]}})",
       "t: shape: expected sizes, found 99999999999999999999"},
      {R"({"t":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})",
       "t: shape: expected at most 8 sides, found more"},
      {R"({"t":{"dtype":"F32","shape":[],"data_offsets":[true,0]}})",
       "t: data_offsets: expected two offsets, found true"},
      {R"({"t":{"dtype":"F32","shape":[],"data_offsets":[0,0],"more":{}}})",
       "t: expected dtype, shape and data_offsets once, found an object for more"},
      {R"({"__metadata__":{"a":1}})", "__metadata__: a: expected a text, found a number"},
      {R"({"__metadata__":{"a":{"b":"c"}}})", "__metadata__: a: expected a text, found an object"},
      {R"({"__metadata__":{"a":"b","a":"c"}})",
       "__metadata__: expected each key once, found a twice"},
      {R"({"__metadata__":{},"__metadata__":{}})",
       "__metadata__: expected it once, found it twice"},
      {R"({"new\nline":3})", "new?line: expected an object, found a number"},
  };
  for (const auto& [json, expected] : headers) {
    const std::string error = parse_error(with_header(json));
    EXPECT_TRUE(error.starts_with("m.safetensors: " + expected)) << json << "\n" << error;
  }
}

TEST(Safetensors, RefusesDuplicateTensors) {
  const std::string tensor = R"("t":{"dtype":"F32","shape":[1],"data_offsets":[0,4]})";
  EXPECT_EQ(parse_error(with_header("{" + tensor + "," + tensor + "}", Bytes(4))),
            "m.safetensors: t: expected the key once, found it twice");
}

// Deep nesting must neither overflow the stack nor take long.
TEST(Safetensors, RefusesDeepNesting) {
  constexpr std::size_t kDepth = 5'000'000;
  EXPECT_EQ(parse_error(with_header(std::string(kDepth, '['))),
            "m.safetensors: header: expected a JSON object, found an array");
  std::string objects;
  for (int i = 0; i < 100'000; ++i) objects += "{\"a\":";
  EXPECT_NE(parse_error(with_header(objects)).find("found an object for a"), std::string::npos);
  EXPECT_NE(parse_error(with_header(R"({"t":{"shape":)" + std::string(kDepth, '['))).find("array"),
            std::string::npos);
}

TEST(Safetensors, ChecksTypesAndSizes) {
  EXPECT_EQ(parse_error(one_tensor("F33", "[1]", "[0,4]", 4)),
            "m.safetensors: t: dtype: expected F32, F16, BF16 or F64, found F33");
  EXPECT_EQ(parse_error(one_tensor("F32", "[2]", "[0,4]", 4)),
            "m.safetensors: t: data_offsets: expected 8 bytes for F32 [2], found 4");
  EXPECT_EQ(parse_error(one_tensor("F32", "[1]", "[0,6]", 6)),
            "m.safetensors: t: data_offsets: expected 4 bytes for F32 [1], found 6");
  EXPECT_EQ(parse_error(one_tensor("F32", "[2]", "[0,8]", 7)),
            "m.safetensors: t: data_offsets: expected a range within the 7 bytes of values, found "
            "[0, 8] (truncated?)");
  EXPECT_EQ(parse_error(one_tensor("F32", "[1]", "[8,4]", 8)),
            "m.safetensors: t: data_offsets: expected a range within the 8 bytes of values, found "
            "[8, 4]");
  EXPECT_NE(parse_error(one_tensor("F32", "[1]", "[18446744073709551612,18446744073709551615]", 4))
                .find("expected a range within"),
            std::string::npos);
  // 2^62 floats are 2^64 bytes, which is 0 in 64 bits; 2^32 squared likewise.
  for (const char* shape : {"[4611686018427387904]", "[4294967296,4294967296]"}) {
    EXPECT_NE(parse_error(one_tensor("F32", shape, "[0,0]", 0)).find("fits 64 bits"),
              std::string::npos);
  }
}

TEST(Safetensors, RefusesGapsAndOverlaps) {
  const auto two = [](const std::string& first, const std::string& second, std::size_t bytes) {
    return with_header(R"({"a":{"dtype":"F32","shape":[1],"data_offsets":)" + first +
                           R"(},"b":{"dtype":"F32","shape":[1],"data_offsets":)" + second + "}}",
                       Bytes(bytes));
  };
  EXPECT_NO_THROW(Safetensors::parse("m", two("[4,8]", "[0,4]", 8)));
  EXPECT_EQ(parse_error(two("[0,4]", "[0,4]", 4)),
            "m.safetensors: b: data_offsets: expected to begin at 4, found 0 (an overlap)");
  EXPECT_EQ(parse_error(two("[0,4]", "[2,6]", 6)),
            "m.safetensors: b: data_offsets: expected to begin at 4, found 2 (an overlap)");
  EXPECT_EQ(parse_error(two("[0,4]", "[5,9]", 9)),
            "m.safetensors: b: data_offsets: expected to begin at 4, found 5 (a gap)");
  EXPECT_EQ(parse_error(two("[1,5]", "[5,9]", 9)),
            "m.safetensors: a: data_offsets: expected to begin at 0, found 1 (a gap)");
  EXPECT_EQ(parse_error(two("[0,4]", "[4,8]", 9)),
            "m.safetensors: values: expected 8 bytes, found 9");
}

TEST(Safetensors, RefusesEveryTruncation) {
  const Bytes file = serialise(make_elan(smallest_architecture()));
  for (std::size_t size = 0; size < file.size(); ++size) {
    const std::string error =
        parse_error(Bytes(file.begin(), file.begin() + static_cast<std::ptrdiff_t>(size)));
    ASSERT_TRUE(error.starts_with("m.safetensors: ")) << size;
  }
}

TEST(Safetensors, SurvivesEveryChangedHeaderByte) {
  const Bytes file = serialise(make_elan(smallest_architecture()));
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), sizeof length);
  std::size_t refused = 0;
  for (std::size_t at = 0; at < 8 + length; ++at) {
    for (const unsigned flip : {1U, 0x80U, 0x20U}) {
      Bytes changed = file;
      changed[at] ^= static_cast<std::byte>(flip);
      try {
        Safetensors::parse("m", changed);
      } catch (const Error& error) {
        ASSERT_EQ(error.kind(), ErrorKind::model);
        ++refused;
      }
    }
  }
  EXPECT_GT(refused, length);  // what is left are other names of tensors
}

class SafetensorsOnDisk : public testing::Test {
 protected:
  void SetUp() override { std::filesystem::create_directories(folder_); }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::string read_error(const std::filesystem::path& path) {
    return error_of(ErrorKind::model, [&] { Safetensors::read(path); });
  }

  const std::filesystem::path folder_ =
      std::filesystem::path(testing::TempDir()) /
      (std::string("safetensors_test.") +
       testing::UnitTest::GetInstance()->current_test_info()->name());
};

TEST_F(SafetensorsOnDisk, ReadsWhatItParses) {
  const Bytes file = serialise(make_elan(smallest_architecture()));
  const auto path = folder_ / "a b,[c].safetensors";
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(file.data()), static_cast<std::streamsize>(file.size()));
  const auto read = Safetensors::read(path), parsed = Safetensors::parse("m", file);
  EXPECT_EQ(read.name(), path.string());
  EXPECT_EQ(read.file_size(), file.size());
  ASSERT_EQ(read.entries().size(), parsed.entries().size());
  for (const auto& [key, tensor] : parsed.entries()) {
    EXPECT_EQ(read.floats(key), parsed.floats(key)) << key;
  }
}

TEST_F(SafetensorsOnDisk, SaysWhatIsThereInstead) {
  const auto path = folder_ / "m";
  const std::string expected = path.string() + ": expected a safetensors file, found ";
  EXPECT_EQ(read_error(path), expected + "no such file");
  EXPECT_EQ(read_error(folder_),
            folder_.string() + ": expected a safetensors file, found a folder");
  ASSERT_EQ(mkfifo(path.c_str(), 0600), 0);
  EXPECT_EQ(read_error(path), expected + "a special file");
  std::filesystem::remove(path);
  const std::ofstream empty(path);
  EXPECT_EQ(read_error(path), expected + "an empty file");
}

TEST_F(SafetensorsOnDisk, RefusesATruncatedFile) {
  Bytes file = serialise(make_elan(smallest_architecture()));
  file.pop_back();
  const auto path = folder_ / "m";
  std::ofstream(path, std::ios::binary)
      .write(reinterpret_cast<const char*>(file.data()), static_cast<std::streamsize>(file.size()));
  EXPECT_NE(read_error(path).find("(truncated?)"), std::string::npos);
}

}  // namespace
}  // namespace elan::test
