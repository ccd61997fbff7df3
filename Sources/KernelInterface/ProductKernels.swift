/// result += left·right, or = left·right. The rows of the right factor lie in panels: some of their columns, row after row.
package struct PanelProduct<Scalar: KernelScalar> {
  /// `rows` × `depth`, or `depth` × `rows` where it is transposed.
  package var left: UnsafePointer<Scalar>
  package var leftStride: Int
  package var isTransposed: Bool
  package var rows: Int
  package var columns: Int
  package var depth: Int
  /// What ``ProductKernels/pack`` has made of `panelRows` rows, of which `depth` count, from `firstRow` on.
  package var panels: UnsafePointer<Scalar>
  package var panelRows: Int
  package var firstRow: Int
  package var result: UnsafeMutablePointer<Scalar>
  package var resultStride: Int
  /// Whether the result keeps what it had.
  package var adds = true
  /// Memory that will be read next and is in no cache: it is asked for on the way.
  package var ahead: UnsafeRawBufferPointer?

  package init(
    left: UnsafePointer<Scalar>, leftStride: Int, isTransposed: Bool, rows: Int, columns: Int, depth: Int,
    panels: UnsafePointer<Scalar>, panelRows: Int, firstRow: Int, result: UnsafeMutablePointer<Scalar>,
    resultStride: Int
  ) {
    self.left = left
    self.leftStride = leftStride
    self.isTransposed = isTransposed
    self.rows = rows
    self.columns = columns
    self.depth = depth
    self.panels = panels
    self.panelRows = panelRows
    self.firstRow = firstRow
    self.result = result
    self.resultStride = resultStride
  }
}

/// Products that add up rows by weights.
package struct ProductKernels<Scalar: KernelScalar>: Sendable {
  /// Puts rows into panels, ``panelCount(rows:columns:)`` scalars.
  package typealias Pack =
    @Sendable (
      _ source: UnsafePointer<Scalar>, _ stride: Int, _ rows: Int, _ columns: Int,
      _ panels: UnsafeMutablePointer<Scalar>
    ) -> Void
  /// Up to ``depthAtOnce`` products at a time are added up in the order of the depth, and their sum to the result.
  package typealias Add = @Sendable (PanelProduct<Scalar>) -> Void

  package let pack: Pack
  package let add: Add
  package let depthAtOnce: Int

  package init(pack: @escaping Pack, add: @escaping Add, depthAtOnce: Int) {
    self.pack = pack
    self.add = add
    self.depthAtOnce = depthAtOnce
  }

  /// From a multiple of so many columns on, panels are those of the columns that are left.
  package static var panelAlignment: Int { 64 }

  package static func panelCount(rows: Int, columns: Int) -> Int { rows * ((columns + 15) & ~15) }
}
