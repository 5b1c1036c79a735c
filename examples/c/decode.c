/* Decodes a bare payload (packed columns, as `pcodec.pack` makes them) with ONNX Runtime's C API.

   cc -O2 decode.c -I/usr/include/onnxruntime -lonnxruntime -lm -o decode
   ./decode graphs/decoder.onnx < payload > samples.s16

   `pcodec export graphs` writes the graph; docs/onnx.md says what it takes. The output is 16-bit
   samples at 16 kHz, as the machine has them. A column that was lost comes as bytes of 0xff. */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <onnxruntime_c_api.h>

enum { ROWS = 24, BITS = 10, BYTES = ROWS * BITS / 8, MAX_STATES = 64, FIRST = 2 };

static const OrtApi *ort;
static OrtAllocator *allocator;

static void check(OrtStatus *status)
{
    if (status) {
        fprintf(stderr, "decode: %s\n", ort->GetErrorMessage(status));
        exit(1);
    }
}

static OrtValue *tensor(ONNXTensorElementDataType type, const int64_t *shape, size_t dims)
{
    OrtValue *value;
    check(ort->CreateTensorAsOrtValue(allocator, shape, dims, type, &value));
    return value;
}

static void *data_of(OrtValue *value)
{
    void *data;
    check(ort->GetTensorMutableData(value, &data));
    return data;
}

static size_t count_of(const OrtValue *value)
{
    OrtTensorTypeAndShapeInfo *info;
    size_t count;
    check(ort->GetTensorTypeAndShape(value, &info));
    check(ort->GetTensorShapeElementCount(info, &count));
    ort->ReleaseTensorTypeAndShapeInfo(info);
    return count;
}

/* A memory at the start of a stream: zeros. The model's metadata has its shape, as "[1, 4, 320]". */
static OrtValue *initial(OrtSession *session, OrtModelMetadata *metadata, size_t input, const char *name)
{
    OrtTypeInfo *type;
    const OrtTensorTypeAndShapeInfo *info;
    ONNXTensorElementDataType kind;
    char *text, *at;
    int64_t shape[8];
    size_t dims = 0;
    check(ort->SessionGetInputTypeInfo(session, input, &type));
    check(ort->CastTypeInfoToTensorInfo(type, &info));
    check(ort->GetTensorElementType(info, &kind));
    ort->ReleaseTypeInfo(type);
    check(ort->ModelMetadataLookupCustomMetadataMap(metadata, allocator, name, &text));
    if (!text) {
        fprintf(stderr, "decode: not a graph of `pcodec export`: no shape of %s\n", name);
        exit(1);
    }
    for (at = text; *at && *at != ']' && dims < 8; at += strspn(at, "[, "))
        if (*at != '[')
            shape[dims++] = strtoll(at, &at, 10);
    OrtValue *value = tensor(kind, shape, dims);
    size_t size = kind == ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT ? 4 : 8;
    memset(data_of(value), 0, size * count_of(value));
    check(ort->AllocatorFree(allocator, text));
    return value;
}

/* Packed columns to indices; bits run from the most significant down. */
static int unpack(const uint8_t *packed, int64_t *indices)
{
    int lost = 1;
    for (int i = 0; i < BYTES; i++)
        lost &= packed[i] == 0xff;
    for (int row = 0; row < ROWS; row++) {
        int bit = row * BITS, shift = 24 - BITS - bit % 8;
        uint32_t three = packed[bit / 8] << 16 | packed[bit / 8 + 1] << 8;
        if (bit / 8 + 2 < BYTES)
            three |= packed[bit / 8 + 2];
        indices[row] = three >> shift & ((1 << BITS) - 1);
    }
    return lost;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: decode decoder.onnx < payload > samples.s16\n");
        return 2;
    }
    OrtEnv *env;
    OrtSessionOptions *options;
    OrtSession *session;
    OrtModelMetadata *metadata;
    ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (!ort)
        return fprintf(stderr, "decode: ONNX Runtime is older than its header\n"), 1;
    check(ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "pcodec", &env));
    check(ort->CreateSessionOptions(&options));
    check(ort->SetIntraOpNumThreads(options, 1));
    check(ort->CreateSession(env, argv[1], options, &session));
    check(ort->GetAllocatorWithDefaultOptions(&allocator));
    check(ort->SessionGetModelMetadata(session, &metadata));

    /* Inputs: indices, lost, last, then the memories; outputs: samples, then the memories. */
    char *inputs[3 + MAX_STATES], *outputs[1 + MAX_STATES];
    OrtValue *given[3 + MAX_STATES], *results[1 + MAX_STATES];
    size_t count, states;
    check(ort->SessionGetInputCount(session, &count));
    states = count - 3;
    if (count < 4 || states > MAX_STATES)
        return fprintf(stderr, "decode: not a decoder\n"), 1;
    for (size_t i = 0; i < count; i++) {
        check(ort->SessionGetInputName(session, i, allocator, &inputs[i]));
        if (i >= 3)
            given[i] = initial(session, metadata, i, inputs[i]);
    }
    for (size_t i = 0; i <= states; i++)
        check(ort->SessionGetOutputName(session, i, allocator, &outputs[i]));

    uint8_t packed[FIRST][BYTES];
    for (int64_t wanted = FIRST, columns, last = 0; !last; wanted = 1) {
        size_t bytes = fread(packed, 1, wanted * BYTES, stdin);
        if (bytes % BYTES)
            return fprintf(stderr, "decode: the last column is cut off\n"), 1;
        columns = bytes / BYTES;
        last = columns < wanted;
        if (last && wanted == FIRST && !columns)
            return 0; /* no column at all */
        int64_t shape[3] = {1, columns, ROWS};
        given[0] = tensor(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, shape, 3);
        given[1] = tensor(ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL, shape, 2);
        given[2] = tensor(ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64, shape, 0);
        for (int64_t i = 0; i < columns; i++)
            ((uint8_t *)data_of(given[1]))[i] = unpack(packed[i], (int64_t *)data_of(given[0]) + i * ROWS);
        *(int64_t *)data_of(given[2]) = last;
        memset(results, 0, sizeof results);
        check(ort->Run(session, NULL, (const char *const *)inputs, (const OrtValue *const *)given, count,
                       (const char *const *)outputs, states + 1, results));
        const float *samples = data_of(results[0]);
        for (size_t i = 0, n = count_of(results[0]); i < n; i++) {
            int16_t sample = (int16_t)lrintf(samples[i] * 32767);
            fwrite(&sample, sizeof sample, 1, stdout);
        }
        ort->ReleaseValue(results[0]);
        for (size_t i = 0; i < count; i++) {
            ort->ReleaseValue(given[i]);
            if (i >= 3)
                given[i] = results[i - 2];
        }
    }
    return fflush(stdout) != 0; /* the rest goes with the process */
}
