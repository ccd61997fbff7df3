/// The element types that tensor files are read and written with.
///
/// Elements of several bytes are little-endian, in files and in memory.
public enum TensorElementType: String, Sendable, Hashable, CaseIterable, CustomStringConvertible {
  /// IEEE 754 binary16: 1 sign, 5 exponent and 10 fraction bits.
  case float16
  /// The upper half of a `float32`: 1 sign, 8 exponent and 7 fraction bits.
  case bfloat16
  /// IEEE 754 binary32.
  case float32
  /// IEEE 754 binary64.
  case float64
  /// Two's complement, 8 bits.
  case int8
  /// Two's complement, 16 bits.
  case int16
  /// Two's complement, 32 bits.
  case int32
  /// Two's complement, 64 bits.
  case int64
  /// Unsigned, 8 bits.
  case uint8
  /// Unsigned, 16 bits.
  case uint16
  /// Unsigned, 32 bits.
  case uint32
  /// Unsigned, 64 bits.
  case uint64
  /// One byte: zero is false, everything else is true.
  case bool

  /// The size of one element in bytes.
  public var byteCount: Int {
    switch self {
    case .int8, .uint8, .bool: 1
    case .float16, .bfloat16, .int16, .uint16: 2
    case .float32, .int32, .uint32: 4
    case .float64, .int64, .uint64: 8
    }
  }

  /// Whether the elements are floating-point numbers, of any width.
  public var isFloatingPoint: Bool {
    switch self {
    case .float16, .bfloat16, .float32, .float64: true
    default: false
    }
  }

  /// The type as the `descr` of a `.npy` header, `<f4` for example.
  ///
  /// numpy has no bfloat16. The package ml_dtypes saves its own as `<V2`, and so does this one; in Python
  /// `numpy.load(path).view(ml_dtypes.bfloat16)` reads it back.
  public var npyDescription: String {
    switch self {
    case .float16: "<f2"
    case .bfloat16: "<V2"
    case .float32: "<f4"
    case .float64: "<f8"
    case .int8: "|i1"
    case .int16: "<i2"
    case .int32: "<i4"
    case .int64: "<i8"
    case .uint8: "|u1"
    case .uint16: "<u2"
    case .uint32: "<u4"
    case .uint64: "<u8"
    case .bool: "|b1"
    }
  }

  /// The type as the `dtype` of a safetensors header, `F32` for example.
  public var safetensorsName: String {
    switch self {
    case .float16: "F16"
    case .bfloat16: "BF16"
    case .float32: "F32"
    case .float64: "F64"
    case .int8: "I8"
    case .int16: "I16"
    case .int32: "I32"
    case .int64: "I64"
    case .uint8: "U8"
    case .uint16: "U16"
    case .uint32: "U32"
    case .uint64: "U64"
    case .bool: "BOOL"
    }
  }

  /// The name of the type, `float32` for example.
  public var description: String { rawValue }
}
