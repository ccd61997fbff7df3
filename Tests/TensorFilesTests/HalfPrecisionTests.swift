import BatchLossTensorFiles
import Foundation
import Testing

/// All 65 536 values of both 16-bit types, against the definition of the formats in exact arithmetic.
@Suite("TensorFiles: 16-bit floating point")
struct HalfPrecisionTests {
  /// The value of a binary interchange format, computed in `Double`, which holds all of them exactly.
  private static func value(_ bits: UInt16, exponentBits: Int) -> Double {
    let fractionBits = 15 - exponentBits
    let exponent = Int(bits & 0x7FFF) >> fractionBits
    let fraction = Double(Int(bits) & (1 << fractionBits - 1)) / Double(1 << fractionBits)
    let bias = 1 << (exponentBits - 1) - 1
    let magnitude: Double
    switch exponent {
    case 0: magnitude = fraction * pow(2, Double(1 - bias))
    case 1 << exponentBits - 1: magnitude = fraction == 0 ? .infinity : .nan
    default: magnitude = (1 + fraction) * pow(2, Double(exponent - bias))
    }
    return bits >> 15 == 1 ? -magnitude : magnitude
  }

  /// All bit patterns in order, in a file; the elements begin at an odd address if `misaligned`.
  private static func file(_ dtype: String, misaligned: Bool, in scratch: Scratch) throws -> String {
    let json =
      "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},"
      + "\"t\":{\"dtype\":\"\(dtype)\",\"shape\":[256,256],\"data_offsets\":[1,131073]}}"
    let padded = json + String(repeating: " ", count: (misaligned ? 0 : 1) + json.utf8.count % 2)
    let all = (0...UInt16.max).flatMap { [UInt8(truncatingIfNeeded: $0), UInt8($0 >> 8)] }
    return try scratch.write(safetensors(padded, data: [0] + all), "m.safetensors") + ":t"
  }

  @Test(arguments: [("F16", 5), ("BF16", 8)], [false, true])
  func widensEveryValue(_ type: (dtype: String, exponentBits: Int), _ misaligned: Bool) throws {
    let scratch = Scratch()
    let tensor = try MappedTensor(opening: try Self.file(type.dtype, misaligned: misaligned, in: scratch))
    let floats = try tensor.floats()
    let doubles = try tensor.doubles()
    var wrong: [UInt16] = []
    for bits in 0...UInt16.max {
      let expected = Self.value(bits, exponentBits: type.exponentBits)
      let (float, double) = (floats[Int(bits)], doubles[Int(bits)])
      let right =
        expected.isNaN
        ? float.isNaN && double.isNaN
        : double.bitPattern == expected.bitPattern && float.bitPattern == Float(expected).bitPattern
          && Double(float).bitPattern == expected.bitPattern
      if !right || float.sign != (bits >> 15 == 1 ? .minus : .plus) { wrong.append(bits) }
    }
    #expect(wrong.isEmpty, "\(wrong.count) wrong, the first 0x\(String(wrong.first ?? 0, radix: 16))")
  }

  @Test func agreesWithFloat16() throws {
    let scratch = Scratch()
    let tensor = try MappedTensor(opening: try Self.file("F16", misaligned: false, in: scratch))
    let floats = try tensor.floats()
    let wrong = (0...UInt16.max).filter { bits in
      let expected = Float(Float16(bitPattern: bits))
      return expected.isNaN ? !floats[Int(bits)].isNaN : expected.bitPattern != floats[Int(bits)].bitPattern
    }
    #expect(wrong.isEmpty)
    #expect(try tensor.withElements(as: Float16.self) { $0.map(\.bitPattern) } == Array(0...UInt16.max))
  }

  @Test func readsBlocksOfAnySize() throws {
    let scratch = Scratch()
    let tensor = try MappedTensor(opening: try Self.file("F16", misaligned: false, in: scratch))
    let all = try tensor.floats().map(\.bitPattern)
    // Lengths around the widths of vectors, where the compiler changes from one loop to another.
    for count in [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 63, 64, 65, 100] {
      for offset in [0, 1, 3, 1000, 65536 - count] {
        let range = offset..<offset + count
        #expect(try tensor.floats(range).map(\.bitPattern) == Array(all[range]))
      }
    }
  }
}
