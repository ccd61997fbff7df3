import BatchLossTensorFiles
import Testing

/// Files that numpy, ml_dtypes and safetensors wrote, see Fixtures/generate.py.
@Suite("TensorFiles: files of numpy and safetensors")
struct FixtureTests {
  private static func expected(_ type: TensorElementType) -> [Double] {
    func integers<T: FixedWidthInteger>(_ type: T.Type) -> [Double] {
      [0, 1, 2, 100, Double(T.min), Double(T.max)]
    }
    return switch type {
    case .float16, .bfloat16, .float32, .float64: [0, -0.0, 1.5, -2.25, .infinity, .nan]
    case .int8: integers(Int8.self)
    case .int16: integers(Int16.self)
    case .int32: integers(Int32.self)
    case .int64: integers(Int64.self)
    case .uint8: integers(UInt8.self)
    case .uint16: integers(UInt16.self)
    case .uint32: integers(UInt32.self)
    case .uint64: integers(UInt64.self)
    case .bool: [0, 1, 1, 0, 0, 1]
    }
  }

  @Test(arguments: TensorElementType.allCases, [".npy", "all.safetensors:"])
  func readsEveryType(_ type: TensorElementType, _ format: String) throws {
    let name = format.hasPrefix(".") ? "\(type)\(format)" : "\(format)\(type)"
    let tensor = try MappedTensor(opening: fixture(name))
    #expect(tensor.shape == [2, 3])
    #expect(tensor.elementType == type)
    // Descriptions tell -0 from 0 and let NaN equal itself.
    #expect(try tensor.doubles().map(\.description) == Self.expected(type).map(\.description))
    #expect(try tensor.floats().map(\.description) == Self.expected(type).map { Float($0).description })
  }

  @Test(arguments: ["version2.npy", "version3.npy"])
  func readsVersions(_ name: String) throws {
    let tensor = try MappedTensor(opening: fixture(name))
    #expect(try tensor.doubles().map(\.description) == Self.expected(.float32).map(\.description))
  }

  @Test(arguments: ["scalar.npy", "all.safetensors:scalar"])
  func readsScalars(_ name: String) throws {
    let tensor = try MappedTensor(opening: fixture(name))
    #expect(tensor.shape == [])
    #expect(try tensor.floats() == [1.5])
  }

  @Test(arguments: ["empty.npy", "all.safetensors:empty"])
  func readsEmptyArrays(_ name: String) throws {
    let tensor = try MappedTensor(opening: fixture(name))
    #expect(tensor.shape == [3, 0])
    #expect(try tensor.floats() == [])
  }

  @Test func readsVectors() throws {
    #expect(try MappedTensor(opening: fixture("vector.npy")).int32s() == [0, 1, 2, 3, 4])
    #expect(try MappedTensor(opening: fixture("all.safetensors:schön:😀")).int64s() == [0, 1, 2])
  }

  @Test(arguments: [
    ("big_endian.npy", TensorFileError.Code.bigEndian, "'>f4'"),
    ("fortran.npy", .fortranOrder, "float32 [2, 3]"),
    ("object.npy", .unsupportedElementType, "Python objects"),
    ("complex.npy", .unsupportedElementType, "complex"),
    ("text.npy", .unsupportedElementType, "strings"),
    ("structured.npy", .unsupportedElementType, "structured"),
    ("dates.npy", .unsupportedElementType, "dates"),
    ("all.safetensors:float8", .unsupportedElementType, "'F8_E4M3'"),
    ("all.safetensors:float128", .noSuchTensor, "'bfloat16', 'bool', 'empty'"),
  ])
  func rejects(_ name: String, _ code: TensorFileError.Code, _ message: String) {
    expect(code, message) { _ = try MappedTensor(opening: fixture(name)) }
  }

  @Test func acceptsFortranOrderWhereItDoesNotMatter() throws {
    #expect(try MappedTensor(opening: fixture("fortran_column.npy")).floats() == [0, 0, 0])
  }
}
