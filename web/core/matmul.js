// y = W x + b for several x at once. The weights are the larger part, so they are read once for four x.

/**
 * @param {Float32Array} weight (rows, columns)
 * @param {Float32Array | null} bias (rows,)
 * @param {Float64Array} x (count, columns)
 * @param {Float64Array} y (count, rows), written
 * @param {number} rows
 * @param {number} columns
 * @param {number} count
 */
export function multiply(weight, bias, x, y, rows, columns, count) {
  let k = 0;
  for (; k + 4 <= count; k += 4) multiplyFour(weight, bias, x, y, rows, columns, k);
  for (; k < count; k++) multiplyOne(weight, bias, x, y, rows, columns, k);
}

/**
 * @param {Float32Array} weight
 * @param {Float32Array | null} bias
 * @param {Float64Array} x
 * @param {Float64Array} y
 * @param {number} rows
 * @param {number} columns
 * @param {number} k the first of the four
 */
function multiplyFour(weight, bias, x, y, rows, columns, k) {
  const [a, b, c, d] = [k * columns, (k + 1) * columns, (k + 2) * columns, (k + 3) * columns];
  for (let row = 0; row < rows; row++) {
    const start = row * columns;
    const offset = bias ? bias[row] : 0;
    let [s, t, u, v] = [offset, offset, offset, offset];
    for (let i = 0; i < columns; i++) {
      const w = weight[start + i];
      s += w * x[a + i];
      t += w * x[b + i];
      u += w * x[c + i];
      v += w * x[d + i];
    }
    const out = k * rows + row;
    y[out] = s;
    y[out + rows] = t;
    y[out + 2 * rows] = u;
    y[out + 3 * rows] = v;
  }
}

/**
 * One x: four rows at a time, so that four sums go on side by side.
 * @param {Float32Array} weight
 * @param {Float32Array | null} bias
 * @param {Float64Array} x
 * @param {Float64Array} y
 * @param {number} rows
 * @param {number} columns
 * @param {number} k which x
 */
function multiplyOne(weight, bias, x, y, rows, columns, k) {
  const [first, out] = [k * columns, k * rows];
  let row = 0;
  for (; row + 4 <= rows; row += 4) {
    const a = row * columns;
    const b = a + columns;
    const c = b + columns;
    const d = c + columns;
    let [s, t, u, v] = bias ? [bias[row], bias[row + 1], bias[row + 2], bias[row + 3]] : [0, 0, 0, 0];
    for (let i = 0; i < columns; i++) {
      const number = x[first + i];
      s += weight[a + i] * number;
      t += weight[b + i] * number;
      u += weight[c + i] * number;
      v += weight[d + i] * number;
    }
    y[out + row] = s;
    y[out + row + 1] = t;
    y[out + row + 2] = u;
    y[out + row + 3] = v;
  }
  for (; row < rows; row++) {
    let sum = bias ? bias[row] : 0;
    for (let i = 0; i < columns; i++) sum += weight[row * columns + i] * x[first + i];
    y[out + row] = sum;
  }
}
