import BatchLossTensorFiles
import Foundation
import Testing

@Suite("TensorFiles: several outputs at once", .serialized)
struct CommitTests {
  private func output(_ path: String, _ value: Float, unnamed: Bool = true) throws -> TensorOutput {
    let output = try TensorOutput(creating: path, elementType: .float32, shape: [1], unnamed: unnamed)
    try output.withMutableElements(as: Float.self) { $0[0] = value }
    return output
  }

  @Test(arguments: [true, false])
  func publishesAll(_ unnamed: Bool) throws {
    let scratch = Scratch()
    let names = ["a.npy", "b.npy", "c.npy"]
    let outputs = try names.enumerated().map { try output(scratch.file($1), Float($0), unnamed: unnamed) }
    try TensorOutput.commit(outputs)
    #expect(scratch.contents == names)
    for (index, name) in names.enumerated() {
      #expect(try MappedTensor(opening: scratch.file(name)).floats() == [Float(index)])
    }
    try TensorOutput.commit([])
  }

  @Test(arguments: [true, false])
  func publishesNoneIfOneFails(_ unnamed: Bool) throws {
    let scratch = Scratch()
    do {
      let outputs = try ["a.npy", "b.npy", "c.npy"].map { try output(scratch.file($0), 1, unnamed: unnamed) }
      // Comes into the way after the output was created.
      #expect(mkdir(scratch.file("b.npy"), 0o755) == 0)
      expect(.cannotCommit, scratch.file("b.npy") + ": cannot rename into place: Is a directory") {
        try TensorOutput.commit(outputs)
      }
      #expect(scratch.contents.filter { !$0.hasPrefix(".npy-") } == ["b.npy"])
      // They can still be written and committed.
      #expect(rmdir(scratch.file("b.npy")) == 0)
      try outputs[0].withMutableElements(as: Float.self) { $0[0] = 2 }
      try TensorOutput.commit(Array(outputs[..<2]))
      #expect(try MappedTensor(opening: scratch.file("a.npy")).floats() == [2])
    }
    #expect(scratch.contents == ["a.npy", "b.npy"])
  }

  @Test func namesWhatWasReplacedBeforeAFailure() throws {
    let scratch = Scratch()
    let outputs = try ["a.npy", "b.npy"].map { try output(scratch.file($0), 1) }
    try TensorOutput.write([0] as [Float], to: scratch.file("a.npy"))
    #expect(mkdir(scratch.file("b.npy"), 0o755) == 0)
    let message = "replaced already: '\(scratch.file("a.npy"))'"
    expect(.cannotCommit, message) { try TensorOutput.commit(outputs) }
    #expect(try MappedTensor(opening: scratch.file("a.npy")).floats() == [1])
    expect(.alreadyCommitted, "a.npy") { try outputs[0].commit() }
  }

  @Test func rejectsTheSamePathTwice() throws {
    let scratch = Scratch()
    let outputs = try [scratch.file("a.npy"), scratch.path + "/./a.npy"].map { try output($0, 1) }
    expect(.cannotCommit, "two outputs have this path") { try TensorOutput.commit(outputs) }
    expect(.cannotCommit, "two outputs have this path") { try TensorOutput.commit([outputs[0], outputs[0]]) }
    #expect(scratch.contents == [])
    try outputs[1].commit()
    expect(.alreadyCommitted, "a.npy") { try TensorOutput.commit(outputs.reversed()) }
    #expect(scratch.contents == ["a.npy"])
  }

  @Test func failsIfTheDirectoryIsGone() throws {
    let scratch = Scratch()
    #expect(mkdir(scratch.file("d"), 0o755) == 0)
    let orphan = try output(scratch.file("d/a.npy"), 1)
    let other = try output(scratch.file("b.npy"), 1)
    #expect(rmdir(scratch.file("d")) == 0)
    expect(.cannotCommit, "d/a.npy: cannot give the output a name") {
      try TensorOutput.commit([other, orphan])
    }
    #expect(scratch.contents.filter { !$0.hasPrefix(".npy-") } == [])
  }
}
