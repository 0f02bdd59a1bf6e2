// Files, folders and pipes through the real command.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <nlohmann/json.hpp>

#include "folder.h"
#include "process.h"

namespace elan::test {
namespace {

using Names = std::set<std::string>;

Outcome in_folder(const Folder& folder, std::vector<std::string> arguments,
                  const std::string& input = "") {
  return run_command(arguments, {.input = input, .folder = folder.str()});
}

TEST(Upscale, OneFileQuietly) {
  const Folder f;
  f.write("a.ppm", ppm(9, 5));
  const Outcome o = in_folder(f, {"upscale", "-i", "a.ppm", "-o", "b.ppm"});
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(o.out + o.err, "");
  EXPECT_EQ(ppm_size(f.read("b.ppm")), std::pair(36, 20));
  EXPECT_EQ(f.files(), (Names{"a.ppm", "b.ppm"}));
}

TEST(Upscale, ScalesAndModelsByName) {
  const Folder f;
  f.write("a.ppm", ppm());
  const struct {
    std::vector<std::string> options;
    int side;
  } cases[] = {{{"-s", "2"}, 16},
               {{"-s", "3"}, 24},
               {{"-m", "light"}, 32},
               {{"-m", "elan-light", "-s", "2"}, 16},
               {{"-m", "elan_light_x3"}, 24},
               {{"-m", "elan_light_x3.safetensors"}, 24},
               {{"-m", ELANSR_MODELS "/elan_light_x2.safetensors"}, 16},
               {{"-g", "-1"}, 32},
               {{"--width", "20"}, 20},
               {{"--height", "12", "-s", "2"}, 12}};
  for (const auto& c : cases) {
    std::vector<std::string> arguments{"upscale", "-i", "a.ppm", "-o", "b.ppm", "--overwrite"};
    arguments.insert(arguments.end(), c.options.begin(), c.options.end());
    const Outcome o = in_folder(f, arguments);
    EXPECT_EQ(o.status, 0) << o.err;
    EXPECT_EQ(ppm_size(f.read("b.ppm")), std::pair(c.side, c.side)) << c.options.back();
  }
}

TEST(Upscale, OptionsWithoutACommandAreThoseOfUpscale) {
  const Folder f;
  f.write("a.ppm", ppm());
  const Outcome o = in_folder(f, {"-i", "a.ppm", "-o", "b.ppm"});
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(f.files(), (Names{"a.ppm", "b.ppm"}));
}

TEST(Upscale, SizesBeyondTheLargestScaleAreRefused) {
  const Folder f;
  f.write("a.ppm", ppm());
  const Outcome o = in_folder(f, {"upscale", "-i", "a.ppm", "-o", "b.ppm", "--width", "33"});
  EXPECT_EQ(o.status, 1);
  EXPECT_EQ(o.err,
            "elan-sr: a.ppm: size: expected at most 32x32 from 8x8 at scale 4, found "
            "33x33\n");
  EXPECT_EQ(f.files(), (Names{"a.ppm"}));
}

TEST(Upscale, FolderKeepsNamesAndSkipsStrays) {
  const Folder f;
  f.write("in/a.ppm", ppm());
  f.write("in/B.PPM", ppm());
  f.write("in/notes.txt", "hello");
  f.write("in/.hidden.ppm", "no picture");
  f.write("in/deep/c.ppm", ppm());
  const Outcome o = in_folder(f, {"upscale", "-i", "in", "-o", "new/out", "-s", "2"});
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(o.err,
            "elan-sr: warning: in/notes.txt: skipped: not a picture by its name\n"
            "elan-sr: warning: in: 1 folder inside not looked into; -r does\n");
  EXPECT_TRUE(fs::exists(f / "new/out/a.ppm"));
  EXPECT_TRUE(fs::exists(f / "new/out/B.PPM"));
  EXPECT_EQ(f.files().size(), 7U);
}

TEST(Upscale, RecursionKeepsPlaces) {
  const Folder f;
  f.write("in/a.ppm", ppm());
  f.write("in/x/y/b.ppm", ppm());
  f.write("c.ppm", ppm());
  const Outcome o =
      in_folder(f, {"upscale", "-r", "-i", "in", "c.ppm", "-o", "out", "-f", "png", "-s", "2"});
  EXPECT_EQ(o.status, 0) << o.err;
  EXPECT_EQ(f.files(), (Names{"c.ppm", "in/a.ppm", "in/x/y/b.ppm", "out/a.png", "out/c.png",
                              "out/x/y/b.png"}));
}

TEST(Upscale, EmptyFolderIsAWarning) {
  const Folder f;
  fs::create_directory(f / "in");
  const Outcome o = in_folder(f, {"upscale", "-i", "in", "-o", "out"});
  EXPECT_EQ(o.status, 0);
  EXPECT_NE(o.err.find("warning: in: no pictures found"), std::string::npos) << o.err;
}

TEST(Upscale, ExistingOutputs) {
  const Folder f;
  f.write("a.ppm", ppm());
  f.write("b.ppm", ppm());
  f.write("out/a.ppm", "old");
  const std::vector<std::string> base{"upscale", "-i", "a.ppm", "b.ppm", "-o", "out", "-s", "2"};
  const auto with = [&](const std::string& option) {
    std::vector<std::string> arguments = base;
    arguments.push_back(option);
    return in_folder(f, arguments);
  };

  const Outcome neither = in_folder(f, base);
  EXPECT_EQ(neither.status, 1);
  EXPECT_EQ(neither.err,
            "elan-sr: out/a.ppm: exists already; --overwrite replaces it, --skip-existing leaves "
            "it\n");
  EXPECT_EQ(f.read("out/a.ppm"), "old");
  EXPECT_EQ(ppm_size(f.read("out/b.ppm")), std::pair(16, 16));  // the others are done

  fs::remove(f / "out/b.ppm");
  const Outcome skip = with("--skip-existing");
  EXPECT_EQ(skip.status, 0);
  EXPECT_EQ(skip.err, "");
  EXPECT_EQ(f.read("out/a.ppm"), "old");
  EXPECT_EQ(ppm_size(f.read("out/b.ppm")), std::pair(16, 16));

  const Outcome overwrite = with("--overwrite");
  EXPECT_EQ(overwrite.status, 0) << overwrite.err;
  EXPECT_EQ(ppm_size(f.read("out/a.ppm")), std::pair(16, 16));
}

TEST(Upscale, Pipes) {
  const Folder f;
  f.write("a.ppm", ppm());
  const Outcome both =
      in_folder(f, {"upscale", "-i", "-", "-o", "-", "-f", "ppm", "-s", "2"}, ppm());
  EXPECT_EQ(both.status, 0) << both.err;
  EXPECT_EQ(ppm_size(both.out), std::pair(16, 16));
  const Outcome in = in_folder(f, {"upscale", "-i", "-", "-o", "b.ppm", "-s", "2"}, ppm());
  EXPECT_EQ(in.status, 0) << in.err;
  EXPECT_EQ(ppm_samples(f.read("b.ppm")), ppm_samples(both.out));
  const Outcome out = in_folder(f, {"upscale", "-i", "a.ppm", "-o", "-", "-f", "ppm", "-s", "2"});
  EXPECT_EQ(out.status, 0) << out.err;
  EXPECT_EQ(ppm_samples(out.out), ppm_samples(both.out));
  const Outcome bad = in_folder(f, {"upscale", "-i", "-", "-o", "-", "-f", "ppm"}, "rubbish");
  EXPECT_EQ(bad.status, 1);
  EXPECT_EQ(bad.out, "");
  EXPECT_TRUE(bad.err.starts_with("elan-sr: standard input")) << bad.err;
}

TEST(Upscale, StrangeNames) {
  const Folder f;
  const std::vector<std::string> names{"-i.ppm",  "a b.ppm",    "[a].ppm",  "{}.ppm",
                                       "a,b.ppm", "é.ppm",      "\xff.ppm", "two\nl.ppm",
                                       "%d.ppm",  "x.ppm[n=2]", "[c,d]",    "info"};
  for (const std::string& name : names) f.write(name, ppm());
  std::vector<std::string> arguments{"upscale", "-o", "o", "-f", "ppm", "-s", "2", "-i"};
  arguments.insert(arguments.end(), names.begin(), names.end());
  fs::create_directory(f / "o");
  const Outcome listed = in_folder(f, arguments);
  EXPECT_EQ(listed.status, 0) << listed.err;
  for (const std::string& name : names) {
    const std::string out = name.ends_with(".ppm") ? name : name + ".ppm";
    EXPECT_EQ(ppm_size(f.read("o/" + out)), std::pair(16, 16)) << name;
  }
  const Outcome dashes = in_folder(f, {"upscale", "-o", "p/", "-s", "2", "--", "-i.ppm", "[c,d]"});
  EXPECT_EQ(dashes.status, 0) << dashes.err;
  EXPECT_TRUE(fs::exists(f / "p/-i.ppm"));
  EXPECT_TRUE(fs::exists(f / "p/[c,d].png"));
}

TEST(Upscale, MessagesKeepBytesAndStayOneLine) {
  const Folder f;
  const Outcome o = in_folder(f, {"upscale", "-i", "\xfe\nx\x1b[2J.ppm", "-o", "o/"});
  EXPECT_EQ(o.status, 1);
  EXPECT_EQ(o.err, "elan-sr: \xfe\\nx\\x1b[2J.ppm: cannot be read: No such file or directory\n");
}

TEST(Upscale, OneFailureDoesNotEndTheOthers) {
  const Folder f;
  f.write("in/a.ppm", ppm());
  f.write("in/broken.ppm", ppm().substr(0, 100));
  f.write("in/empty.png", "");
  f.write("in/text.jpg", "this is no picture");
  f.write("in/z.ppm", ppm());
  fs::create_symlink("nowhere", f / "in/dangling.png");
  const Outcome o = in_folder(f, {"upscale", "-i", "missing.png", "in", "-o", "out", "-s", "2"});
  EXPECT_EQ(o.status, 1);
  EXPECT_EQ(line_count(o.err), 5) << o.err;
  for (const char* name :
       {"missing.png", "in/broken.ppm", "in/empty.png", "in/text.jpg", "in/dangling.png"}) {
    EXPECT_NE(o.err.find("elan-sr: " + std::string(name) + ": "), std::string::npos) << o.err;
  }
  EXPECT_TRUE(fs::exists(f / "out/a.ppm"));
  EXPECT_TRUE(fs::exists(f / "out/z.ppm"));
  for (const std::string& name : f.files()) {
    EXPECT_TRUE(name.starts_with("in/") || name == "out/a.ppm" || name == "out/z.ppm") << name;
  }
}

TEST(Upscale, InputsThatAreNoPictures) {
  const Folder f;
  f.write("short.ppm", ppm().substr(0, 150));
  f.write("text.ppm", "hello");
  f.write("empty.ppm", "");
  f.write("random.png", std::string("\x89PNG\r\n\x1a\n") + ppm());
  f.write("wide.png", png_header(2'000'000'000, 2'000'000'000));
  f.write("zero.png", png_header(0, 0));
  f.write("cut\n\xff.png", png_header(8, 8));
  for (const char* name : {"short.ppm", "text.ppm", "empty.ppm", "random.png", "wide.png",
                           "zero.png", "cut\n\xff.png"}) {
    const Outcome o = in_folder(f, {"upscale", "-i", name, "-o", "out/", "-f", "ppm"});
    EXPECT_EQ(o.status, 1) << name << o.err;
    EXPECT_EQ(line_count(o.err), 1) << o.err;
    const std::string shown = std::string(name).starts_with("cut") ? "cut\\n\xff.png" : name;
    EXPECT_TRUE(o.err.starts_with("elan-sr: " + shown + ": expected ")) << o.err;
  }
  EXPECT_EQ(f.files().size(), 7U);
}

TEST(Upscale, InputAsOutput) {
  const Folder f;
  f.write("a.ppm", ppm());
  fs::create_hard_link(f / "a.ppm", f / "same.ppm");
  fs::create_symlink("a.ppm", f / "link.ppm");
  for (const char* output : {"a.ppm", "./a.ppm", "same.ppm", "link.ppm"}) {
    for (const char* option : {"--overwrite", "--skip-existing"}) {
      const Outcome o = in_folder(f, {"upscale", "-i", "a.ppm", "-o", output, option});
      EXPECT_EQ(o.status, 1) << output;
      EXPECT_NE(o.err.find("is the input"), std::string::npos) << o.err;
    }
  }
  EXPECT_EQ(f.read("a.ppm"), ppm());
  EXPECT_TRUE(fs::is_symlink(f / "link.ppm"));
}

TEST(Upscale, TwoInputsForOneOutput) {
  const Folder f;
  f.write("in/a.ppm", ppm());
  f.write("in/a.pnm", ppm());
  f.write("in/b.ppm", ppm());
  const Outcome o = in_folder(f, {"upscale", "-i", "in", "-o", "out", "-f", "png", "-s", "2"});
  EXPECT_EQ(o.status, 1);
  EXPECT_EQ(line_count(o.err), 2) << o.err;
  EXPECT_NE(o.err.find("in/a.pnm: would be written to out/a.png, as would in/a.ppm"),
            std::string::npos)
      << o.err;
  EXPECT_TRUE(fs::exists(f / "out/b.png"));
  EXPECT_FALSE(fs::exists(f / "out/a.png"));
}

TEST(Upscale, OneInputTwice) {
  const Folder f;
  f.write("in/a.ppm", ppm());
  f.write("in/b.ppm", ppm());
  const Outcome o =
      in_folder(f, {"upscale", "-i", "in", "./in/b.ppm", "in/b.ppm", "-o", "out", "-s", "2"});
  EXPECT_EQ(o.status, 0);
  EXPECT_EQ(line_count(o.err), 2) << o.err;
  EXPECT_NE(o.err.find("warning: ./in/b.ppm: is an input twice: done once"), std::string::npos)
      << o.err;
  EXPECT_TRUE(fs::exists(f / "out/a.ppm"));
  EXPECT_TRUE(fs::exists(f / "out/b.ppm"));
}

TEST(Upscale, OutputFolderInsideTheInput) {
  const Folder f;
  f.write("in/a.ppm", ppm());
  fs::create_directory_symlink("in", f / "alias");
  for (const char* output : {"in/out", "in", "./in/../in/x/y", "alias/out"}) {
    const Outcome o = in_folder(f, {"upscale", "-r", "-i", "in", "-o", output});
    EXPECT_EQ(o.status, 1) << output;
    EXPECT_EQ(line_count(o.err), 1) << o.err;
    EXPECT_NE(o.err.find("output folder"), std::string::npos) << o.err;
  }
  EXPECT_EQ(f.files(), (Names{"in/a.ppm"}));
  const Outcome flat = in_folder(f, {"upscale", "-i", "in", "-o", "in/out", "-s", "2"});
  EXPECT_EQ(flat.status, 0) << flat.err;  // without -r nothing in there is ever read
}

TEST(Upscale, LinkLoops) {
  const Folder f;
  f.write("in/a.ppm", ppm());
  f.write("in/x/b.ppm", ppm());
  fs::create_directory_symlink("..", f / "in/x/up");
  fs::create_directory_symlink(".", f / "in/self");
  fs::create_symlink("turn.ppm", f / "in/turn.ppm");
  const Outcome o = in_folder(f, {"upscale", "-r", "-i", "in", "-o", "out", "-s", "2"});
  EXPECT_EQ(o.status, 1);
  EXPECT_EQ(line_count(o.err), 3) << o.err;
  for (const char* name :
       {"in/x/up: is a link back", "in/self: is a link back", "in/turn.ppm: cannot be read"}) {
    EXPECT_NE(o.err.find(name), std::string::npos) << o.err;
  }
  EXPECT_TRUE(fs::exists(f / "out/a.ppm"));
  EXPECT_TRUE(fs::exists(f / "out/x/b.ppm"));
}

TEST(Upscale, OutputsThatCannotBe) {
  const Folder f;
  f.write("a.ppm", ppm());
  fs::create_directory(f / "folder.ppm");
  const struct {
    std::string output;
    const char* says;
  } cases[] = {{"nowhere/b.ppm", "nowhere"}, {"a.ppm/b.ppm", "is not a folder"}};
  for (const auto& c : cases) {
    const Outcome o = in_folder(f, {"upscale", "-i", "a.ppm", "-o", c.output});
    EXPECT_EQ(o.status, 1) << o.err;
    EXPECT_EQ(line_count(o.err), 1) << o.err;
    EXPECT_NE(o.err.find(c.says), std::string::npos) << o.err;
  }
  f.write("in/folder.ppm", ppm());
  const Outcome o = in_folder(f, {"upscale", "-i", "in", "-o", ".", "--overwrite"});
  EXPECT_EQ(o.status, 1) << o.err;
  EXPECT_NE(o.err.find("is a folder"), std::string::npos) << o.err;
}

TEST(Upscale, PermissionsAreRespected) {
  const Folder f;
  f.write("a.ppm", ppm());
  fs::permissions(f.write("secret.ppm", ppm()), fs::perms(0));
  fs::create_directory(f / "closed");
  fs::permissions(f / "closed", fs::perms(0555));
  fs::create_directory(f / "open");
  fs::permissions(f / "open", fs::perms(0777));
  const RunSettings nobody{.folder = f.str(), .as_nobody = true};
  if (run_command({"--version"}, nobody).status == 127) {
    GTEST_SKIP() << "the command cannot be run by another user from where it was built";
  }
  const Outcome read = run_command({"upscale", "-i", "secret.ppm", "-o", "open/b.ppm"}, nobody);
  EXPECT_EQ(read.status, 1);
  EXPECT_NE(read.err.find("secret.ppm"), std::string::npos) << read.err;
  const Outcome write = run_command({"upscale", "-i", "a.ppm", "-o", "closed/b.ppm"}, nobody);
  EXPECT_EQ(write.status, 1);
  EXPECT_NE(write.err.find("closed"), std::string::npos) << write.err;
  EXPECT_EQ(f.files(), (Names{"a.ppm", "secret.ppm"}));
}

TEST(Upscale, FullDiskLeavesNothing) {
  const Folder f;
  f.write("a.ppm", ppm(32, 32));
  for (const char* format : {"ppm", "png"}) {
    const Outcome o = run_command({"upscale", "-i", "a.ppm", "-o", std::string("b.") + format},
                                  {.folder = f.str(), .file_size_limit = 1000});
    EXPECT_EQ(o.status, 1) << format;
    EXPECT_EQ(line_count(o.err), 1) << o.err;
    EXPECT_TRUE(o.err.starts_with("elan-sr: b.")) << o.err;
    EXPECT_EQ(f.files(), (Names{"a.ppm"})) << format;
  }
}

TEST(Upscale, PipesAreWrittenToNotReplaced) {
  const Folder f;
  f.write("a.ppm", ppm());
  ASSERT_EQ(mkfifo((f / "pipe.ppm").c_str(), 0600), 0);
  Running running({"upscale", "-i", "a.ppm", "-o", "pipe.ppm", "-s", "2"}, {.folder = f.str()});
  EXPECT_EQ(ppm_size(f.read("pipe.ppm")), std::pair(16, 16));
  EXPECT_EQ(running.finish().status, 0);
  EXPECT_TRUE(fs::is_fifo(f / "pipe.ppm"));
}

TEST(Upscale, DevicesAreWrittenToNotReplaced) {
  const Folder f;
  f.write("a.ppm", ppm());
  fs::permissions(f.str(), fs::perms(0777));
  // Not as root: a program that replaces devices should not get to do it.
  const RunSettings nobody{.folder = f.str(), .as_nobody = true};
  if (run_command({"--version"}, nobody).status == 127) {
    GTEST_SKIP() << "the command cannot be run by another user from where it was built";
  }
  const auto upscale_to = [&](const char* output) {
    return run_command({"upscale", "-i", "a.ppm", "-o", output, "-f", "ppm", "-s", "2"}, nobody);
  };
  const Outcome null = upscale_to("/dev/null");
  EXPECT_EQ(null.status, 0) << null.err;
  const Outcome full = upscale_to("/dev/full");
  EXPECT_EQ(full.status, 1) << full.err;
  EXPECT_EQ(full.err, "elan-sr: /dev/full: cannot be written: No space left on device\n");
  EXPECT_EQ(f.files(), (Names{"a.ppm"}));
}

TEST(Upscale, ProgressAsJson) {
  const Folder f;
  f.write("a.ppm", ppm());
  f.write("b\xff.ppm", "no picture");
  f.write("c.ppm", ppm());
  f.write("out/c.ppm", "old");
  const Outcome o = in_folder(f, {"upscale", "-i", "a.ppm", "b\xff.ppm", "c.ppm", "-o", "out",
                                  "--progress=json", "--skip-existing", "-s", "2"});
  EXPECT_EQ(o.status, 1);
  std::map<std::string, nlohmann::json> last;
  std::istringstream lines(o.err);
  std::string line;
  double share = -1;
  while (std::getline(lines, line)) {
    const auto object = nlohmann::json::parse(line);  // throws: every line is an object
    if (object["event"] == "progress") {
      EXPECT_GE(object["share"], share);
      share = object["share"];
    }
    last[object["event"]] = object;
  }
  EXPECT_EQ(last["start"]["pictures"], 2);
  EXPECT_EQ(last["start"]["scale"], 2);
  EXPECT_EQ(last["progress"]["input"], "a.ppm");
  EXPECT_EQ(last["done"]["input"], "a.ppm");
  EXPECT_EQ(last["done"]["width"], 16);
  EXPECT_EQ(last["skipped"]["input"], "c.ppm");
  EXPECT_EQ(last["error"]["name"], "b\\xff.ppm");
  EXPECT_EQ(last["error"]["status"], 1);
  EXPECT_EQ(last["end"]["done"], 1);
  EXPECT_EQ(last["end"]["skipped"], 1);
  EXPECT_EQ(last["end"]["failed"], 1);
  EXPECT_EQ(last["end"]["status"], 1);
}

TEST(Upscale, VerboseSaysWhatWasUsed) {
  const Folder f;
  f.write("a.ppm", ppm());
  const Outcome o = in_folder(f, {"upscale", "-v", "-i", "a.ppm", "-o", "b.ppm", "-s", "2"});
  EXPECT_EQ(o.status, 0);
  EXPECT_NE(o.err.find("model elan_light_x2.safetensors"), std::string::npos) << o.err;
  EXPECT_NE(o.err.find("a.ppm (8x8) -> b.ppm (16x16)"), std::string::npos) << o.err;
  EXPECT_EQ(o.out, "");
}

TEST(Upscale, HighestStatusWins) {
  const Folder f;
  f.write("a.ppm", ppm());
  const Outcome o =
      in_folder(f, {"upscale", "-i", "missing.ppm", "a.ppm", "-o", "out", "--max-memory", "10M"});
  EXPECT_EQ(o.status, 4) << o.err;
  EXPECT_EQ(line_count(o.err), 2) << o.err;
  EXPECT_EQ(f.files(), (Names{"a.ppm"}));
}

}  // namespace
}  // namespace elan::test
