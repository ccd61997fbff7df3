import BatchLossTensorFiles
import Foundation
import Testing

@Suite("TensorFiles: opening")
struct OpeningTests {
  @Test(arguments: ["x.npy", "x.safetensors:t"])
  func rejectsMissingFiles(_ name: String) {
    let scratch = Scratch()
    expect(.cannotOpen, "cannot open: No such file or directory") {
      _ = try MappedTensor(opening: scratch.file(name))
    }
    expect(.cannotOpen, "Not a directory") { _ = try MappedTensor(opening: "/dev/null/" + name) }
  }

  @Test func rejectsWhatIsNotAFile() throws {
    let scratch = Scratch()
    #expect(mkdir(scratch.file("directory.npy"), 0o755) == 0)
    expect(.notARegularFile, "expected a regular file, found a directory") {
      _ = try MappedTensor(opening: scratch.file("directory.npy"))
    }
    // Nobody writes to it: opening it must not wait.
    #expect(mkfifo(scratch.file("fifo.npy"), 0o644) == 0)
    expect(.notARegularFile, "found a FIFO") { _ = try MappedTensor(opening: scratch.file("fifo.npy")) }
    expect(.notARegularFile, "found a device") { _ = try MappedTensor(opening: .npy("/dev/zero")) }
  }

  @Test func rejectsEmptyFilesAndOddPaths() throws {
    let scratch = Scratch()
    let path = try scratch.write([], "x.npy")
    expect(.truncated, "the file is empty") { _ = try MappedTensor(opening: path) }
    expect(.truncated, "the file is empty") { _ = try MappedTensor(opening: .safetensors(path, tensor: "t")) }
    expect(.cannotOpen, "NUL") { _ = try MappedTensor(opening: .npy(path + "\0.npy")) }
    expect(.cannotOpen, "File name too long") {
      _ = try MappedTensor(opening: scratch.file(String(repeating: "x", count: 300) + ".npy"))
    }
  }

  @Test func rejectsForbiddenFiles() async throws {
    let scratch = Scratch()
    let path = try scratch.write([0], "x.npy")
    #expect(chmod(path, 0) == 0)
    // In a process of its own, which gives up root's right to read everything.
    await #expect(processExitsWith: .success) { [path = path as String] in
      if geteuid() == 0 { try #require(setuid(65534) == 0) }
      expect(.cannotOpen, "cannot open: Permission denied") { _ = try MappedTensor(opening: path) }
    }
  }

  @Test func describesItself() throws {
    let tensor = try MappedTensor(opening: fixture("float32.npy"))
    #expect(tensor.description == fixture("float32.npy") + ": float32 [2, 3]")
    #expect(tensor.reference == .npy(fixture("float32.npy")))
  }
}
