import BatchLossTensorFiles
import Foundation
import Testing

/// Each in a process of its own, so that other tests do not count.
@Suite("TensorFiles: resident memory", .serialized)
struct ResidentMemoryTests {
  /// Resident memory of this process in MiB.
  private static func residentMegabytes() throws -> Int {
    let fields = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8).split(separator: " ")
    return try #require(Int(fields[1])) * sysconf(Int32(_SC_PAGESIZE)) / (1 << 20)
  }

  @Test func staysBoundedWhileReading() async throws {
    let scratch = Scratch()
    // 1 GiB that takes no space: all of it is a hole.
    let path = try scratch.write(npy("<f4", shape: "(268435456,)", data: []), "x.npy")
    let header = try bytes(of: path).count
    #expect(truncate(path, header + 1 << 30) == 0)

    await #expect(processExitsWith: .success) { [path = path as String] in
      let tensor = try MappedTensor(opening: path)
      tensor.adviseSequential()
      var block = [Float](repeating: 1, count: 1 << 20)
      let before = try Self.residentMegabytes()
      var peak = 0
      for offset in stride(from: 0, to: tensor.elementCount, by: block.count) {
        try block.withUnsafeMutableBufferPointer { try tensor.read(into: $0, from: offset) }
        peak = max(peak, try Self.residentMegabytes() - before)
        tensor.adviseDone(offset..<offset + block.count)
      }
      #expect(block.allSatisfy { $0 == 0 })
      #expect(peak < 100, "\(peak) MiB")
    }
  }

  @Test func staysBoundedWhileReadingBlocksSmallerThanAPage() async throws {
    let scratch = Scratch()
    let path = try scratch.write(npy("<f4", shape: "(67108864,)", data: []), "x.npy")
    let header = try bytes(of: path).count
    #expect(truncate(path, header + 1 << 28) == 0)

    await #expect(processExitsWith: .success) { [path = path as String] in
      let tensor = try MappedTensor(opening: path)
      var block = [Float](repeating: 1, count: 777)
      let before = try Self.residentMegabytes()
      for offset in stride(from: 0, to: tensor.elementCount - block.count, by: block.count) {
        try block.withUnsafeMutableBufferPointer { try tensor.read(into: $0, from: offset) }
        tensor.adviseDone(offset..<offset + block.count)
      }
      let growth = try Self.residentMegabytes() - before
      #expect(growth < 40, "\(growth) MiB")
    }
  }

  @Test func staysBoundedWhileWriting() async throws {
    let scratch = Scratch()
    await #expect(processExitsWith: .success) { [path = scratch.file("x.npy") as String] in
      let output = try TensorOutput(creating: path, elementType: .float64, shape: [32, 1 << 20])
      let before = try Self.residentMegabytes()
      var peak = 0
      for row in 0..<32 {
        let range = row << 20..<(row + 1) << 20
        try output.withMutableElements(as: Double.self) {
          UnsafeMutableBufferPointer(rebasing: $0[range]).update(repeating: Double(row))
        }
        peak = max(peak, try Self.residentMegabytes() - before)
        output.adviseDone(range)
      }
      #expect(peak < 60, "\(peak) MiB of 256")
      try output.commit()
    }
    let tensor = try MappedTensor(opening: scratch.file("x.npy"))
    #expect(try (0..<32).map { try tensor.floats($0 << 20..<$0 << 20 + 1) } == (0..<32).map { [Float($0)] })
  }
}
