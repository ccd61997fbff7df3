import BatchLossTensorFiles
import Glibc
import Testing

/// Each in a process of its own, which ends with a signal.
@Suite("TensorFiles: interruption")
struct InterruptionTests {
  @Test func nothingIsLeftAfterSIGKILL() async throws {
    let scratch = Scratch()
    await #expect(processExitsWith: .signal(SIGKILL)) { [path = scratch.path as String] in
      let output = try TensorOutput(creating: path + "/x.npy", elementType: .float32, shape: [1_000_000])
      try output.withMutableElements(as: Float.self) { $0.update(repeating: 1) }
      kill(getpid(), SIGKILL)
    }
    // Hidden names are only seen where the file system has no files without a name.
    #expect(scratch.contents == [])
  }

  @Test func aSignalHandlerRemovesHiddenFiles() async throws {
    let scratch = Scratch()
    await #expect(processExitsWith: .exitCode(3)) { [path = scratch.path as String] in
      let outputs = try (0..<5).map {
        try TensorOutput(creating: path + "/\($0).npy", elementType: .float32, shape: [100], unnamed: false)
      }
      try outputs[0].commit()
      signal(SIGTERM) { _ in
        TensorOutput.removeTemporaries()
        _exit(3)
      }
      kill(getpid(), SIGTERM)
      // The signal may be taken by another thread.
      sleep(10)
      withExtendedLifetime(outputs) {}
    }
    #expect(scratch.contents == ["0.npy"])
  }

  @Test func removedOutputsCannotBeCommitted() async throws {
    let scratch = Scratch()
    await #expect(processExitsWith: .success) { [path = scratch.path as String] in
      let output = try TensorOutput(
        creating: path + "/x.npy", elementType: .float32, shape: [100], unnamed: false)
      TensorOutput.removeTemporaries()
      expect(.cannotCommit, "No such file or directory") { try output.commit() }
    }
    #expect(scratch.contents == [])
  }
}
