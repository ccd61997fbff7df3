import BatchLossTensorFiles
import Testing

/// Thousands of damaged files: each is read or rejected with an error, and nothing crashes.
///
/// The sequence is the same in every run. Debug builds check every access to a buffer for its bounds.
@Suite("TensorFiles: damaged files")
struct FuzzTests {
  /// SplitMix64.
  private struct Generator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
      state &+= 0x9E37_79B9_7F4A_7C15
      var z = state
      z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
      z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
      return z ^ (z >> 31)
    }
  }

  /// Pieces that matter to one of the parsers.
  private static let tokens =
    [
      "'", "\"", "(", ")", "[", "]", "{", "}", ",", ":", "\\", "\\u0000", "\\ud800", " ", "\n", "\0", "L",
      "-1", "0", "00", "1e9", "4294967296", "9223372036854775807", "9223372036854775808", "True", "False",
      "null", "'descr'", "'shape'", "'<V2'", "'>f8'", "\"dtype\"", "\"shape\"", "\"data_offsets\"", "\"t\"",
      "\"__metadata__\"",
    ].map { Array($0.utf8) } + [[0xFF], [0xFF, 0xFF, 0xFF, 0xFF], [0x80], Array(repeating: 0, count: 8)]

  private static func mutate(_ original: [UInt8], _ generator: inout Generator) -> [UInt8] {
    var bytes = original
    for _ in 0..<Int.random(in: 1...3, using: &generator) {
      // The header is most of the file; its fixed part deserves more than its share.
      let limit = Bool.random(using: &generator) ? bytes.count : min(bytes.count, 16)
      let position = Int.random(in: 0...limit, using: &generator)
      let end = min(bytes.count, position + Int.random(in: 0...8, using: &generator))
      switch Int.random(in: 0..<6, using: &generator) {
      case 0 where position < bytes.count: bytes[position] = UInt8.random(in: 0...255, using: &generator)
      case 1 where position < bytes.count: bytes[position] ^= 1 << UInt8.random(in: 0..<8, using: &generator)
      case 2: bytes.removeSubrange(position..<end)
      case 3: bytes.insert(contentsOf: tokens.randomElement(using: &generator)!, at: position)
      case 4: bytes.replaceSubrange(position..<end, with: tokens.randomElement(using: &generator)!)
      default: bytes.removeSubrange(position...)
      }
    }
    return bytes
  }

  /// Mutates a valid file many times; some of the results must be errors and some must not.
  private func fuzz(_ original: [UInt8], _ name: String, reference: String, rounds: Int) throws {
    let scratch = Scratch()
    var generator = Generator(state: 1)
    var accepted = 0
    var codes: Set<TensorFileError.Code> = []
    for _ in 0..<rounds {
      _ = try scratch.write(Self.mutate(original, &generator), name)
      do {
        let tensor = try MappedTensor(opening: scratch.file(reference))
        accepted += 1
        #expect(tensor.byteCount == tensor.elementCount * tensor.elementType.byteCount)
        // Touch every element.
        #expect(try tensor.doubles().count == tensor.elementCount)
        tensor.adviseDone(0..<tensor.elementCount)
      } catch let error as TensorFileError {
        codes.insert(error.code)
        #expect(error.description.utf8.count < 1000)
        #expect(error.isOneLine)
      }
    }
    #expect(accepted > rounds / 100)
    #expect(codes.count >= 6, "\(codes)")
  }

  @Test func npyVersion1() throws {
    let bytes = npy("<f4", shape: "(2, 3)", data: Array(repeating: 1, count: 24))
    try fuzz(bytes, "x.npy", reference: "x.npy", rounds: 4000)
  }

  @Test func npyVersion2() throws {
    let dictionary = "{'shape': (3,), 'descr': '<i8', 'fortran_order': True}"
    try fuzz(npy(dictionary, version: 2, data: Array(0..<24)), "x.npy", reference: "x.npy", rounds: 4000)
  }

  @Test func safetensors() throws {
    let json = """
      {"__metadata__":{"a":"b"},"s":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},\
      "t":{"dtype":"F16","shape":[2,2],"data_offsets":[3,11]}}
      """
    let bytes = BatchLossTensorFilesTests.safetensors(json, data: Array(0..<11))
    try fuzz(bytes, "x.safetensors", reference: "x.safetensors:t", rounds: 6000)
  }

  @Test func everyTruncation() throws {
    let scratch = Scratch()
    for name in ["float32.npy", "version2.npy", "all.safetensors"] {
      let whole = try bytes(of: fixture(name))
      for count in 0..<whole.count {
        _ = try scratch.write(Array(whole.prefix(count)), name)
        expect(.truncated, "truncated") {
          _ = try MappedTensor(opening: scratch.file(name) + (name.hasSuffix(".npy") ? "" : ":bool"))
        }
      }
    }
  }
}
