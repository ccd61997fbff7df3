/// How a squared Euclidean distance becomes the distance asked for.
package enum DistanceForm: Sendable {
  /// d = ‖x − y‖².
  case squared
  /// d = ‖x − y‖.
  case root
  /// d = ½‖x − y‖²: 1 − x·y for rows of length 1.
  case half
}

/// A tile that is copied into a matrix, as it is or transposed.
package struct TileTransfer<Scalar: KernelScalar> {
  /// `rows` × `columns`. Each row is readable for a vector beyond its end; where it is transposed, whole vectors of rows
  /// are too.
  package var tile: UnsafePointer<Scalar>
  package var stride: Int
  package var rows: Int
  package var columns: Int
  /// Where the first element goes.
  package var output: UnsafeMutablePointer<Scalar>
  package var outputStride: Int
  package var isTransposed: Bool
  /// Whether stores bypass the cache.
  package var streams: Bool
  /// ``scratchCount(rows:)`` scalars, for a transposed tile.
  package var scratch: UnsafeMutablePointer<Scalar>

  package init(
    tile: UnsafePointer<Scalar>, stride: Int, rows: Int, columns: Int, output: UnsafeMutablePointer<Scalar>,
    outputStride: Int, isTransposed: Bool, streams: Bool, scratch: UnsafeMutablePointer<Scalar>
  ) {
    self.tile = tile
    self.stride = stride
    self.rows = rows
    self.columns = columns
    self.output = output
    self.outputStride = outputStride
    self.isTransposed = isTransposed
    self.streams = streams
    self.scratch = scratch
  }

  /// Columns of scratch memory: more than `rows`, so that not all of them fall on the same lines of a cache.
  package static func stripStride(rows: Int) -> Int { ((rows + 15) & ~15) + 16 }

  package static func scratchCount(rows: Int) -> Int { 16 * 16 + 16 * stripStride(rows: rows) }
}

/// The sum of a tile and the transpose of the one across the diagonal. Whole vectors of rows and of columns are read and
/// written.
package struct MirrorSum<Scalar: KernelScalar> {
  package var tile: UnsafePointer<Scalar>
  /// `columns` × `rows`.
  package var mirror: UnsafePointer<Scalar>
  package var stride: Int
  package var rows: Int
  package var columns: Int
  package var output: UnsafeMutablePointer<Scalar>
  package var outputStride: Int
  /// ``scratchCount`` scalars.
  package var scratch: UnsafeMutablePointer<Scalar>

  package init(
    tile: UnsafePointer<Scalar>, mirror: UnsafePointer<Scalar>, stride: Int, rows: Int, columns: Int,
    output: UnsafeMutablePointer<Scalar>, outputStride: Int, scratch: UnsafeMutablePointer<Scalar>
  ) {
    self.tile = tile
    self.mirror = mirror
    self.stride = stride
    self.rows = rows
    self.columns = columns
    self.output = output
    self.outputStride = outputStride
    self.scratch = scratch
  }

  package static var scratchCount: Int { 16 * 16 }
}

/// From inner products to distances, from there into a matrix, and from derivatives by distances to derivatives by squared
/// distances.
package struct DistanceKernels<Scalar: KernelScalar>: Sendable {
  /// Turns x·yⱼ into distances and lists the columns whose difference has cancelled. Returns how many.
  package typealias FromProducts =
    @Sendable (
      _ row: UnsafeMutablePointer<Scalar>, _ squaredNorms: UnsafePointer<Scalar>, _ squaredNorm: Scalar,
      _ count: Int, _ form: DistanceForm, _ cancelled: UnsafeMutablePointer<Int32>
    ) -> Int
  /// row (distances) = weights (∂/∂d) turned into ∂/∂‖x − y‖²; 0 at distance 0. Returns their sum.
  package typealias Chain =
    @Sendable (
      _ row: UnsafeMutablePointer<Scalar>, _ weights: UnsafePointer<Scalar>, _ count: Int, _ form: DistanceForm
    ) -> Double

  /// Copies a tile.
  package typealias Transfer = @Sendable (TileTransfer<Scalar>) -> Void

  package typealias AddMirror = @Sendable (MirrorSum<Scalar>) -> Void

  package let fromProducts: FromProducts
  package let chain: Chain
  package let transfer: Transfer
  package let addMirror: AddMirror

  package init(
    fromProducts: @escaping FromProducts, chain: @escaping Chain, transfer: @escaping Transfer,
    addMirror: @escaping AddMirror
  ) {
    self.fromProducts = fromProducts
    self.chain = chain
    self.transfer = transfer
    self.addMirror = addMirror
  }
}
