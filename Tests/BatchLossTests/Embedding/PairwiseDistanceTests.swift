import BatchLoss
import Synchronization
import Testing

// Distances against their definition in Double, at sizes around the vector and tile borders. Tolerance in Float:
// 1e-6 relative where differences cancel (computed again from the rows), a few ulp of the norms elsewhere.

@Suite struct PairwiseDistanceTests {
  @Test(arguments: EmbeddingDistance.allCases, [1, 3, 15, 16, 17, 33, 128])
  func matchesTheDefinition(kind: EmbeddingDistance, columns: Int) throws {
    for rows in [1, 2, 7, 16, 65, 300] {
      var samples = Samples(UInt64(rows * 1000 + columns))
      let x = samples.numbers(rows * columns)
      let expected = referenceDistances(x, columns, kind).flatMap { $0 }
      let narrow = x.map(Float.init)
      let single = try PairwiseDistance(kind)(narrow.matrix(columns: columns)).elements
      let wide = try PairwiseDistance(kind)(x.matrix(columns: columns)).elements
      for index in expected.indices {
        #expect(single[index] >= 0)
        #expect(relativeError(Double(single[index]), expected[index]) < 1e-5)
        #expect(relativeError(wide[index], expected[index]) < 1e-13)
        if index / rows == index % rows { #expect(single[index] == 0 && wide[index] == 0) }
      }
    }
  }

  /// scikit-learn's case: all ones against all 1 + 1e-4, which ‖x‖² + ‖y‖² − 2x·y cannot tell apart.
  @Test(arguments: [1, 1_000_000])
  func extremeValues(columns: Int) throws {
    let x = [Float](repeating: 1, count: 5 * columns)
    let y = [Float](repeating: 1 + 1e-4, count: 5 * columns)
    let distances = try PairwiseDistance(.squaredEuclidean)(
      x.matrix(columns: columns), y.matrix(columns: columns)
    ).elements
    let difference = Double(y[0] - x[0])
    for distance in distances {
      #expect(relativeError(Double(distance), difference * difference * Double(columns)) < 1e-6)
    }
  }

  @Test(arguments: [10.0, 1000, 100_000])
  func largeOffsets(offset: Double) throws {
    var samples = Samples(7)
    // Rounded as floats after the offset is added, so that the reference sees the same numbers.
    var x = samples.numbers(200 * 64).map { Double(Float($0 + offset)) }
    for column in 0..<64 { x[64 + column] = Double(Float(x[column]).nextUp) }
    let expected = referenceDistances(x, 64, .euclidean).flatMap { $0 }
    let narrow = x.map(Float.init)
    let actual = try PairwiseDistance(.euclidean)(narrow.matrix(columns: 64)).elements
    for index in expected.indices where expected[index] > 0 {
      #expect(relativeError(Double(actual[index]), expected[index]) < 1e-6)
    }
  }

  @Test func identicalRowsAreAtZero() throws {
    var samples = Samples(3)
    let row = samples.numbers(50).map(Float.init)
    let x = row + row + row
    for kind in EmbeddingDistance.allCases {
      #expect(try PairwiseDistance(kind)(x.matrix(columns: 50)).elements.allSatisfy { $0 == 0 })
    }
  }

  @Test func rowsOfZerosHaveNoDirection() throws {
    let x: [Float] = [0, 0, 3, 4]
    #expect(try PairwiseDistance(.cosine)(x.matrix(columns: 2)).elements == [1, 1, 1, 0])
  }

  @Test func otherRowsSurviveOneOfNaN() throws {
    let x: [Double] = [1, 2, .nan, 0, 4, 6]
    let distances = try PairwiseDistance()(x.matrix(columns: 2))
    #expect(distances[0, 2] == 5 && distances[2, 0] == 5)
    #expect(distances[0, 1].isNaN && distances[1, 1].isNaN)
  }

  @Test func tilesAndWorkersGiveTheSameBits() throws {
    var samples = Samples(11)
    let (x, y) = (samples.numbers(700 * 33).map(Float.init), samples.numbers(530 * 33).map(Float.init))
    let whole = try PairwiseDistance()(
      x.matrix(columns: 33), y.matrix(columns: 33), engine: engine(workers: 1))
    for workers in [2, 7] {
      let engine = try engine(workers: workers)
      #expect(try PairwiseDistance()(x.matrix(columns: 33), y.matrix(columns: 33), engine: engine) == whole)
      let seen = Mutex(0)
      try PairwiseDistance().forEachTile(x.matrix(columns: 33), y.matrix(columns: 33), engine: engine) { tile in
        var equal = 0
        for row in tile.rows {
          for other in tile.others
          where tile.distances[row - tile.rows.lowerBound, other - tile.others.lowerBound] == whole[row, other] {
            equal += 1
          }
        }
        seen.withLock { $0 += equal }
      }
      #expect(seen.withLock { $0 } == 700 * 530)
    }
  }

  /// Of a matrix with itself half is computed and mirrored, here with ragged tiles; against all of it, computed as for
  /// two matrices. Rows of 3000 are beyond what stays in caches, so that stores stream.
  @Test(arguments: [(0, 4), (1, 5), (255, 7), (257, 33), (600, 16), (3000, 3)])
  func aMatrixWithItselfIsSymmetric(rows: Int, columns: Int) throws {
    var samples = Samples(UInt64(rows))
    let x = samples.numbers(rows * columns).map(Float.init)
    for kind in EmbeddingDistance.allCases {
      let own = try PairwiseDistance(kind)(x.matrix(columns: columns))
      let other = try PairwiseDistance(kind)(x.matrix(columns: columns), x.matrix(columns: columns))
      for workers in [1, 3] {
        let engine = try engine(workers: workers)
        #expect(try PairwiseDistance(kind)(x.matrix(columns: columns), engine: engine) == own)
      }
      let seen = Mutex(0)
      try PairwiseDistance(kind).forEachTile(x.matrix(columns: columns), engine: engine(workers: 2)) { tile in
        var equal = 0
        for row in tile.rows {
          for column in tile.others
          where tile.distances[row - tile.rows.lowerBound, column - tile.others.lowerBound] == own[row, column] {
            equal += 1
          }
        }
        seen.withLock { $0 += equal }
      }
      #expect(seen.withLock { $0 } == rows * rows, "\(kind): tiles")
      var (asymmetric, different) = (0, 0)
      for row in 0..<rows {
        if own[row, row] != 0 { different += 1 }
        for column in 0..<rows {
          if own[row, column] != own[column, row] { asymmetric += 1 }
          if abs(own[row, column] - other[row, column]) > 1e-5 * other[row, column] { different += 1 }
        }
      }
      #expect(asymmetric == 0 && different == 0, "\(kind): \(asymmetric) asymmetric, \(different) different")
    }
  }

  @Test func memoryBetweenRowsIsLeftAlone() throws {
    let x: [Float] = [0, 0, -9, 3, 4, -9]
    var output = [Float](repeating: -1, count: 8)
    let view = try MatrixView(x.span, rows: 2, columns: 2, stride: 3)
    try PairwiseDistance().evaluate(
      view, into: MutableMatrixView(output.mutableSpan, rows: 2, columns: 2, stride: 4))
    #expect(output == [0, 5, -1, -1, 5, 0, -1, -1])
  }

  @Test func shapesAreChecked() throws {
    let x: [Float] = [1, 2, 3, 4]
    #expect(throws: BatchLossError.self) {
      _ = try PairwiseDistance()(x.matrix(columns: 2), x.matrix(columns: 4))
    }
    let empty: [Float] = []
    let none = try PairwiseDistance()(empty.matrix(columns: 3))
    #expect(none.rows == 0 && none.columns == 0)
  }
}
