import BatchLossTensorFiles
import Glibc
import Testing

@Suite("TensorFiles: reading elements")
struct ReadingTests {
  private func open<T: FixedWidthInteger>(
    _ type: TensorElementType, _ values: [T], _ scratch: Scratch
  ) throws -> MappedTensor {
    let data = values.flatMap(littleEndian)
    let bytes = npy(type.npyDescription, shape: "(\(values.count),)", data: data)
    return try MappedTensor(opening: try scratch.write(bytes, "\(type).npy"))
  }

  /// Values around all limits of the type must come back as the language itself converts them.
  private func check<T: FixedWidthInteger & TensorElement>(_ type: T.Type) throws {
    let scratch = Scratch()
    var values: [T] = [.min, .max, 0, 1]
    for shift in 0..<T.bitWidth { values += [1 << shift, ~(1 << shift), (1 << shift) &- 1] }
    let tensor = try open(T.tensorElementType, values, scratch)
    #expect(try tensor.floats() == values.map { Float($0) })
    #expect(try tensor.doubles() == values.map { Double($0) })
    #expect(try tensor.withElements(as: T.self) { Array($0) } == values)
    #expect(tensor.withBytes(Array.init) == values.flatMap(littleEndian))

    let fits64 = values.filter { Int64(exactly: $0) != nil }
    #expect(try open(T.tensorElementType, fits64, scratch).int64s() == fits64.map { Int64($0) })
    let fits32 = values.filter { Int32(exactly: $0) != nil }
    #expect(try open(T.tensorElementType, fits32, scratch).int32s() == fits32.map { Int32($0) })
  }

  @Test func convertsIntegers() throws {
    try check(Int8.self)
    try check(Int16.self)
    try check(Int32.self)
    try check(Int64.self)
    try check(UInt8.self)
    try check(UInt16.self)
    try check(UInt32.self)
    try check(UInt64.self)
  }

  @Test func convertsBool() throws {
    let scratch = Scratch()
    let tensor = try open(.bool, [0, 1, 2, 255] as [UInt8], scratch)
    #expect(try tensor.floats() == [0, 1, 1, 1])
    #expect(try tensor.doubles() == [0, 1, 1, 1])
    #expect(try tensor.int32s() == [0, 1, 1, 1])
    #expect(try tensor.int64s() == [0, 1, 1, 1])
  }

  @Test func convertsFloats() throws {
    let scratch = Scratch()
    let values: [Double] = [
      0, -0.0, 1, -1.5, .pi, 1e300, -1e300, 1e-300, 1e-40, .leastNonzeroMagnitude, 1 + 0x1p-24, 1 + 0x3p-24,
      .infinity, -.infinity, .nan,
    ]
    let wide = try open(.float64, values.map(\.bitPattern), scratch)
    #expect(try wide.doubles().map(\.bitPattern) == values.map(\.bitPattern))
    #expect(try wide.floats().map(\.description) == values.map { Float($0).description })

    let narrow = try open(.float32, values.map { Float($0).bitPattern }, scratch)
    #expect(try narrow.floats().map(\.bitPattern) == values.map { Float($0).bitPattern })
    #expect(try narrow.doubles().map(\.description) == values.map { Double(Float($0)).description })
  }

  // MARK: Labels

  @Test(arguments: [TensorElementType.float16, .bfloat16, .float32, .float64])
  func rejectsFloatsAsLabels(_ type: TensorElementType) throws {
    let scratch = Scratch()
    let tensor = try open(type, [0] as [UInt64], scratch)
    expect(.elementTypeMismatch, "expected integers, found \(type)") { _ = try tensor.int32s() }
    expect(.elementTypeMismatch, "expected integers, found \(type)") { _ = try tensor.int64s() }
  }

  @Test func namesTheLabelThatDoesNotFit() throws {
    let scratch = Scratch()
    let wide = try open(.int64, [0, -1, 2_147_483_648, -2_147_483_649], scratch)
    expect(.unrepresentable, "element 2 is 2147483648, which int32 cannot hold") { _ = try wide.int32s() }
    var block: [Int32] = [7, 7]
    expect(.unrepresentable, "element 3 is -2147483649") {
      try block.withUnsafeMutableBufferPointer {
        try wide.read(into: UnsafeMutableBufferPointer(rebasing: $0[..<1]), from: 3)
      }
    }
    #expect(block == [7, 7])
    let unsigned = try open(.uint64, [1, 9_223_372_036_854_775_808] as [UInt64], scratch)
    expect(.unrepresentable, "element 1 is 9223372036854775808, which int64 cannot hold") {
      _ = try unsigned.int64s()
    }
    let half = try open(.uint32, [UInt32.max], scratch)
    expect(.unrepresentable, "element 0 is 4294967295") { _ = try half.int32s() }
    #expect(try half.int64s() == [4_294_967_295])
  }

  // MARK: Bounds

  @Test func rejectsRangesOutsideTheTensor() throws {
    let scratch = Scratch()
    let tensor = try open(.int32, [1, 2, 3] as [Int32], scratch)
    var block: [Float] = [0, 0]
    var labels: [Int32] = [0, 0]
    for offset in [-1, 2, 3, 4, Int.max, Int.max - 1, Int.min] {
      expect(.outOfBounds, "the tensor has 3") {
        try block.withUnsafeMutableBufferPointer { try tensor.read(into: $0, from: offset) }
      }
      expect(.outOfBounds, "the tensor has 3") {
        try labels.withUnsafeMutableBufferPointer { try tensor.read(into: $0, from: offset) }
      }
    }
    #expect(block == [0, 0])
    #expect(labels == [0, 0])
    #expect(try tensor.floats(1..<3) == [2, 3])
    #expect(try tensor.floats(3..<3) == [])
    var many = [Double](repeating: 0, count: 4)
    expect(.outOfBounds, "elements 0..<4 asked for") {
      try many.withUnsafeMutableBufferPointer { try tensor.read(into: $0, from: 0) }
    }
  }

  @Test func writesNothingOutsideTheDestination() throws {
    let scratch = Scratch()
    let values = (0..<100).map { UInt16($0) }
    let tensor = try open(.uint16, values, scratch)
    for count in 0..<40 {
      var buffer = [Float](repeating: -1, count: 42)
      try buffer.withUnsafeMutableBufferPointer {
        try tensor.read(into: UnsafeMutableBufferPointer(rebasing: $0[1..<1 + count]), from: 10)
      }
      #expect(buffer == [-1] + (0..<count).map { Float(10 + $0) } + Array(repeating: -1, count: 41 - count))
    }
  }

  @Test func lendsElementsOnlyAsTheirType() throws {
    let scratch = Scratch()
    let tensor = try open(.int32, [1, 2, 3] as [Int32], scratch)
    expect(.elementTypeMismatch, "expected float32 elements, found int32") {
      try tensor.withElements(as: Float.self) { _ in }
    }
    struct Stop: Error {}
    #expect(throws: Stop.self) { try tensor.withElements(as: Int32.self) { _ in throw Stop() } }
    #expect(throws: Stop.self) { try tensor.withBytes { (_) throws(Stop) in throw Stop() } }
  }

  @Test func adviceTakesAnyRange() throws {
    let scratch = Scratch()
    let tensor = try open(.int32, Array(0..<10_000) as [Int32], scratch)
    for range in [0..<0, 0..<10_000, -5..<20_000, 9_999..<10_000, 20_000..<30_000, Int.min..<Int.max] {
      tensor.adviseDone(range)
      #expect(try tensor.floats().last == 9_999)
    }
    tensor.adviseSequential()
    #expect(try tensor.floats(1..<3) == [1, 2])
  }

  @Test func outlivesTheNameOfTheFile() throws {
    let scratch = Scratch()
    let tensor = try open(.int32, [1, 2, 3] as [Int32], scratch)
    _ = try scratch.write([], "other")
    #expect(rename(scratch.file("other"), scratch.file("int32.npy")) == 0)
    #expect(try tensor.int32s() == [1, 2, 3])
  }

  @Test func servesSeveralThreads() async throws {
    let scratch = Scratch()
    let values = (0..<40_000).map { Int32($0) }
    let tensor = try open(.int32, values, scratch)
    try await withThrowingTaskGroup { group in
      for worker in 0..<8 {
        group.addTask {
          let range = worker * 5_000..<(worker + 1) * 5_000
          let block = try tensor.floats(range)
          tensor.adviseDone(range)
          return block == range.map { Float($0) }
        }
      }
      for try await isRight in group { #expect(isRight) }
    }
  }
}
