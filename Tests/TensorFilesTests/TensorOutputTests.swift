import BatchLossTensorFiles
import Foundation
import Testing

@Suite("TensorFiles: output")
struct TensorOutputTests {
  // MARK: Contents

  @Test(arguments: TensorElementType.allCases, [true, false])
  func roundTripsEveryType(_ type: TensorElementType, _ unnamed: Bool) throws {
    let scratch = Scratch()
    let path = scratch.file("x.npy")
    let output = try TensorOutput(creating: path, elementType: type, shape: [3, 5], unnamed: unnamed)
    #expect(output.shape == [3, 5])
    #expect(output.elementType == type)
    #expect(output.byteCount == 15 * type.byteCount)
    #expect(output.description == path + ": \(type) [3, 5]")
    let contents = (0..<output.byteCount).map { UInt8(truncatingIfNeeded: 37 &* $0 &+ 1) }
    try output.withMutableBytes { bytes in
      #expect(bytes.allSatisfy { $0 == 0 })
      #expect(UInt(bitPattern: bytes.baseAddress) % 64 == 0)
      bytes.copyBytes(from: contents)
    }
    try output.commit()
    let tensor = try MappedTensor(opening: path)
    #expect(tensor.shape == [3, 5])
    #expect(tensor.elementType == type)
    #expect(tensor.withBytes(Array.init) == contents)
    #expect(scratch.contents == ["x.npy"])
  }

  @Test(arguments: [[], [0], [1], [7], [0, 4], [2, 0, 3], [1, 2, 3, 4], Array(repeating: 1, count: 100)])
  func roundTripsEveryShape(_ shape: [Int]) throws {
    let scratch = Scratch()
    let path = scratch.file("x.npy")
    let output = try TensorOutput(creating: path, elementType: .int32, shape: shape)
    try output.withMutableElements(as: Int32.self) { elements in
      for index in elements.indices { elements[index] = Int32(index) }
    }
    try output.commit()
    let tensor = try MappedTensor(opening: path)
    #expect(tensor.shape == shape)
    #expect(try tensor.int32s() == (0..<output.elementCount).map { Int32($0) })
  }

  @Test func headerIsAsSpecified() throws {
    let scratch = Scratch()
    let path = scratch.file("x.npy")
    try TensorOutput.write([1.5 as Float], to: path)
    let text = "{'descr': '<f4', 'fortran_order': False, 'shape': (1,), }"
    let expected =
      [0x93, 0x4E, 0x55, 0x4D, 0x50, 0x59, 1, 0, 118, 0] + Array(text.utf8)
      + Array(repeating: 0x20, count: 117 - text.utf8.count) + [0x0A] + littleEndian(Float(1.5).bitPattern)
    #expect(try bytes(of: path) == expected)
  }

  @Test func writesArrays() throws {
    let scratch = Scratch()
    let path = scratch.file("x.npy")
    try TensorOutput.write([1, 2, 3, 4, 5, 6] as [Double], shape: [2, 3], to: path)
    #expect(try MappedTensor(opening: path).shape == [2, 3])
    #expect(try MappedTensor(opening: path).doubles() == [1, 2, 3, 4, 5, 6])
    try TensorOutput.write([-1, .max] as [Int64], to: path)
    #expect(try MappedTensor(opening: path).int64s() == [-1, .max])
    try TensorOutput.write([] as [Float], to: path)
    #expect(try MappedTensor(opening: path).shape == [0])
    expect(.invalidShape, "expected 4 elements for shape [2, 2], found 3") {
      try TensorOutput.write([1, 2, 3] as [Float], shape: [2, 2], to: scratch.file("y.npy"))
    }
    #expect(scratch.contents == ["x.npy"])
  }

  @Test func acceptsSeveralThreads() async throws {
    let scratch = Scratch()
    let output = try TensorOutput(creating: scratch.file("x.npy"), elementType: .int32, shape: [80_000])
    await withThrowingTaskGroup { group in
      for worker in 0..<8 {
        group.addTask {
          let range = worker * 10_000..<(worker + 1) * 10_000
          try output.withMutableElements(as: Int32.self) { for index in range { $0[index] = Int32(index) } }
          output.adviseDone(range)
        }
      }
    }
    try output.commit()
    #expect(try MappedTensor(opening: scratch.file("x.npy")).int32s() == (0..<80_000).map { Int32($0) })
  }

  @Test func adviceTakesAnyRange() throws {
    let scratch = Scratch()
    let output = try TensorOutput(creating: scratch.file("x.npy"), elementType: .int32, shape: [10_000])
    try output.withMutableElements(as: Int32.self) { $0.update(repeating: 7) }
    for range in [0..<0, 0..<10_000, -5..<20_000, 20_000..<30_000, Int.min..<Int.max] {
      output.adviseDone(range)
    }
    // What was let go of is still there.
    try output.withMutableElements(as: Int32.self) { elements in #expect(elements.allSatisfy { $0 == 7 }) }
  }

  // MARK: Appearance

  @Test(arguments: [true, false])
  func appearsOnlyAtTheCommit(_ unnamed: Bool) throws {
    let scratch = Scratch()
    let path = try scratch.write([1, 2, 3], "x.npy")
    let output = try TensorOutput(creating: path, elementType: .float32, shape: [4], unnamed: unnamed)
    try output.withMutableElements(as: Float.self) { $0.update(repeating: 1) }
    #expect(try bytes(of: path) == [1, 2, 3])
    // The file is there at its full size, under no name or a hidden one.
    #expect(scratch.contents.allSatisfy { $0 == "x.npy" || $0.hasPrefix(".npy-") && $0.hasSuffix(".tmp") })
    try output.commit()
    #expect(scratch.contents == ["x.npy"])
    #expect(try MappedTensor(opening: path).floats() == [1, 1, 1, 1])
  }

  @Test(arguments: [true, false])
  func leavesNothingWithoutACommit(_ unnamed: Bool) throws {
    let scratch = Scratch()
    do {
      let output = try TensorOutput(
        creating: scratch.file("x.npy"), elementType: .float32, shape: [4], unnamed: unnamed)
      try output.withMutableElements(as: Float.self) { $0.update(repeating: 1) }
      if !unnamed { #expect(scratch.contents.count == 1) }
    }
    #expect(scratch.contents == [])
  }

  @Test func closesAfterTheCommit() throws {
    let scratch = Scratch()
    let output = try TensorOutput(creating: scratch.file("x.npy"), elementType: .float32, shape: [4])
    try output.commit()
    expect(.alreadyCommitted, "committed") { try output.commit() }
    expect(.alreadyCommitted, "committed") { try output.withMutableBytes { _ in } }
    expect(.alreadyCommitted, "committed") { try output.withMutableElements(as: Float.self) { _ in } }
  }

  @Test func readersKeepWhatTheyOpened() throws {
    let scratch = Scratch()
    let path = scratch.file("x.npy")
    try TensorOutput.write([1, 2] as [Float], to: path)
    let old = try MappedTensor(opening: path)
    try TensorOutput.write([3] as [Float], to: path)
    #expect(try old.floats() == [1, 2])
    #expect(try MappedTensor(opening: path).floats() == [3])
  }

  @Test func followsTheUmask() throws {
    let scratch = Scratch()
    let mask = umask(0)
    umask(mask)
    try TensorOutput.write([1] as [Float], to: scratch.file("x.npy"))
    var status = stat()
    #expect(stat(scratch.file("x.npy"), &status) == 0)
    #expect(status.st_mode & 0o777 == 0o666 & ~mask)
    #expect(status.st_nlink == 1)
  }

  @Test func replacesASymbolicLinkItself() throws {
    let scratch = Scratch()
    let target = try scratch.write([1], "target")
    #expect(symlink(target, scratch.file("x.npy")) == 0)
    try TensorOutput.write([1] as [Float], to: scratch.file("x.npy"))
    #expect(try bytes(of: target) == [1])
    #expect(try MappedTensor(opening: scratch.file("x.npy")).floats() == [1])
  }

  // MARK: Errors

  private func create(_ path: String, _ shape: [Int] = [1]) throws {
    _ = try TensorOutput(creating: path, elementType: .float32, shape: shape)
  }

  @Test func rejectsPaths() throws {
    let scratch = Scratch()
    expect(.invalidReference, "ends in .npy") { try create(scratch.file("x.safetensors:t")) }
    expect(.invalidReference, "ends in .npy") { try create("") }
    expect(.cannotCreate, "No such file or directory") { try create(scratch.file("none/x.npy")) }
    expect(.cannotCreate, "Not a directory") { try create(try scratch.write([], "file") + "/x.npy") }
    expect(.cannotCreate, "NUL") { try create(scratch.file("a\0.npy")) }
    expect(.cannotCreate, "File name too long") {
      try create(scratch.file(String(repeating: "x", count: 300) + ".npy"))
    }
    #expect(mkdir(scratch.file("directory.npy"), 0o755) == 0)
    expect(.cannotCreate, "it is a directory") { try create(scratch.file("directory.npy")) }
    #expect(mkfifo(scratch.file("fifo.npy"), 0o644) == 0)
    expect(.cannotCreate, "it is a FIFO") { try create(scratch.file("fifo.npy")) }
    #expect(scratch.contents == ["directory.npy", "fifo.npy", "file"])
  }

  @Test func rejectsShapes() throws {
    let scratch = Scratch()
    let path = scratch.file("x.npy")
    expect(.invalidShape, "negative extent -1 in shape [2, -1]") { try create(path, [2, -1]) }
    expect(.invalidShape, "overflowing shape") { try create(path, [1 << 32, 1 << 32]) }
    expect(.invalidShape, "overflowing shape") { try create(path, [1 << 32, 1 << 32, 0]) }
    expect(.invalidShape, "overflowing shape") { try create(path, [Int.max / 4]) }
    expect(.headerTooLarge, "30000 extents") { try create(path, Array(repeating: 1, count: 30_000)) }
    #expect(scratch.contents == [])
  }

  @Test func rejectsMoreThanTheDiskHolds() throws {
    let scratch = Scratch()
    expect(.diskFull, "disk full: expected room for 4611686018427388032 bytes") {
      try create(scratch.file("x.npy"), [1 << 60])
    }
    #expect(scratch.contents == [])
  }

  @Test func rejectsMoreThanTheSystemAllows() async throws {
    let scratch = Scratch()
    await #expect(processExitsWith: .success) { [path = scratch.file("x.npy") as String] in
      signal(SIGXFSZ, SIG_IGN)
      var limit = rlimit(rlim_cur: 1000, rlim_max: 1000)
      try #require(setrlimit(__rlimit_resource_t(RLIMIT_FSIZE.rawValue), &limit) == 0)
      expect(.cannotCreate, "cannot reserve 4128 bytes: File too large") {
        _ = try TensorOutput(creating: path, elementType: .float32, shape: [1000])
      }
    }
    #expect(scratch.contents == [])
  }

  @Test func rejectsForbiddenDirectories() async throws {
    let scratch = Scratch()
    #expect(chmod(scratch.path, 0o555) == 0)
    await #expect(processExitsWith: .success) { [path = scratch.path as String] in
      if geteuid() == 0 { try #require(setuid(65534) == 0) }
      expect(.cannotCreate, "Permission denied") {
        _ = try TensorOutput(creating: path + "/x.npy", elementType: .float32, shape: [1])
      }
    }
    #expect(chmod(scratch.path, 0o755) == 0)
  }
}
