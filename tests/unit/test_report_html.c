/* Goal: the HTML report shows what report.json says, is self-contained and survives a report with
 * parts missing or wrong.  Method: canned reports are written, the page is searched for what must
 * and must not be in it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "report_html.h"
#include "whole_file.h"

static char page[1u << 20];
static char folder[64];

static void write_report(const char *text) {
    seam_test_file_write(text, strlen(text), "%s/report.json", folder);
}

static seam_status render(seam_error *err) {
    char from[128], to[128];
    snprintf(from, sizeof from, "%s/report.json", folder);
    snprintf(to, sizeof to, "%s/report.html", folder);
    return seam_report_html_write(to, from, err);
}

static void read_page(void) {
    page[seam_test_file_read(page, sizeof page, "%s/report.html", folder)] = '\0';
}

static int folder_create(void **state) {
    (void)state;
    snprintf(folder, sizeof folder, "/tmp/seam-report-XXXXXX");
    return mkdtemp(folder) == NULL ? -1 : 0;
}

static int folder_delete(void **state) {
    static const char *const names[] = {"report.json", "report.html"};
    char path[128];
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        (void)unlink(path);
    }
    return rmdir(folder);
}

static uint32_t occurrences(const char *needle) {
    uint32_t count = 0;
    for (const char *at = strstr(page, needle); at != NULL; at = strstr(at + 1, needle)) {
        count++;
    }
    return count;
}

static const char full_report[] =
    "{\"model\": \"<tiny> & co\", \"config\": {\"codec\": \"amaq\", \"bits_target\": 4},"
    "\"steps\": ["
    "{\"step\": 0, \"loss\": 3.25, \"tokens\": 100, \"labelled_tokens\": 50, \"seconds\": 0.5,"
    " \"bytes_sent\": 600, \"bytes_received\": 400, \"bf16_bytes\": 2000, \"sites\": {"
    "  \"fwd_in\": {\"mean_bits\": 8.0, \"payload_bytes\": 300},"
    "  \"fwd_out\": {\"mean_bits\": 7.5, \"payload_bytes\": 200},"
    "  \"bwd_in\": {\"mean_bits\": 0, \"payload_bytes\": 0}}},"
    "{\"step\": 1, \"loss\": 1.125, \"tokens\": 100, \"labelled_tokens\": 50, \"seconds\": 0.5,"
    " \"bytes_sent\": 300, \"bytes_received\": 200, \"bf16_bytes\": 2000, \"sites\": {"
    "  \"fwd_in\": {\"mean_bits\": 4.0, \"payload_bytes\": 150},"
    "  \"fwd_out\": {\"mean_bits\": 4.5, \"payload_bytes\": 120},"
    "  \"bwd_in\": {\"mean_bits\": 0, \"payload_bytes\": 0}}}],"
    "\"eval\": {\"before\": {\"loss\": 4, \"perplexity\": 54.6, \"exact_match\": 0, \"accuracy\": "
    "0.25},"
    "          \"after\": {\"loss\": 0.5, \"perplexity\": 1.65, \"exact_match\": 0.875, "
    "\"accuracy\": 0.625,"
    "  \"groups\": {\"a<b\": {\"exact_match\": 0.9375, \"rows\": 4},"
    "               \"rare\": {\"exact_match\": 0.8125, \"rows\": 4}}}},"
    "\"prediction\": {\"wire\": {\"steps\": 2, \"sent\": {\"bytes\": 400}}, \"grade\": {"
    "  \"bytes_sent\": {\"predicted\": 400, \"measured\": 450, \"ratio\": 1.125},"
    "  \"unheard_of\": {\"predicted\": 777, \"measured\": 1, \"ratio\": 2}}},"
    "\"widths\": {\"fwd_in\": [0, 0, 3, 9, 2], \"fwd_out\": [0, 0, 0, 10, 4]}}";

static void test_report_html_write__full_report__shows_its_figures(void **state) {
    (void)state;
    seam_error err = {0};
    write_report(full_report);
    assert_int_equal(render(&err), SEAM_OK);
    read_page();
    assert_non_null(strstr(page, "&lt;tiny&gt; &amp; co"));
    assert_non_null(strstr(page, "0 % &rarr; 87.5 %")); /* exact match */
    assert_non_null(strstr(page, "25 % &rarr; 62.5 %"));
    assert_non_null(strstr(page, "<th>accuracy</th>"));
    assert_non_null(strstr(page, "<td>0.625</td>"));
    assert_non_null(strstr(page, "1500 (37.5 %)"));  /* bytes of both steps, of bf16's 4000 */
    assert_non_null(strstr(page, "8 &rarr; 4</b>")); /* mean bits of fwd_in */
    assert_non_null(strstr(page, "200/s, 1 s"));     /* 200 tokens in 1 s */
    assert_non_null(strstr(page, "config.bits_target"));
    assert_non_null(strstr(page, "<td>after, a&lt;b</td>"));
    assert_non_null(strstr(page, "<td>0.9375</td>"));
    assert_non_null(strstr(page, "<td>after, rare</td>"));
    assert_non_null(strstr(page, "<tr><td>bytes sent a step</td><td>400</td><td>450</td>"
                                 "<td>1.125</td></tr>"));
    assert_null(strstr(page, "777"));
    assert_int_equal(occurrences("<figure>"), 5);
    assert_int_equal(occurrences("</figure>"), 5);
    assert_int_equal(occurrences("<path class=\"line"), 1 + 3 + 2 + 1);
    assert_int_equal(occurrences("<rect"), 3 + 2); /* widths with channels */
    assert_null(strstr(page, "nan"));
    assert_null(strstr(page, "not in this report"));
}

static void test_report_html_write__too_many_groups__not_shown(void **state) {
    (void)state;
    for (int count = 16; count <= 17; count++) {
        char text[1024] = "{\"eval\": {\"after\": {\"exact_match\": 1, \"groups\": {";
        for (int i = 0; i < count; i++) {
            const size_t used = strlen(text);
            snprintf(text + used, sizeof text - used, "%s\"g%d\": {\"exact_match\": 1}",
                     i == 0 ? "" : ", ", i);
        }
        strncat(text, "}}}}", sizeof text - strlen(text) - 1);
        write_report(text);
        assert_int_equal(render(NULL), SEAM_OK);
        read_page();
        assert_int_equal(occurrences("<td>after, g"), count == 16 ? 16 : 0);
        assert_int_equal(occurrences("<td>after</td>"), 1);
    }
}

static void test_report_html_write__any_report__fetches_nothing(void **state) {
    (void)state;
    write_report(full_report);
    assert_int_equal(render(NULL), SEAM_OK);
    read_page();
    static const char *const outside[] = {
        "http:", "https:", "src=", "href=", "<script", "@import", "url("};
    for (size_t i = 0; i < sizeof outside / sizeof *outside; i++) {
        assert_null(strstr(page, outside[i]));
    }
}

static void test_report_html_write__missing_parts__left_out(void **state) {
    static const char *const reports[] = {
        "{}",
        "{\"steps\": []}",
        "{\"steps\": [{}]}",
        "{\"eval\": {\"before\": 3}}",
        "{\"steps\": [{\"loss\": \"x\", \"sites\": 4}], \"widths\": {\"a\": 1}}",
        "{\"steps\": [{\"step\": 0, \"loss\": 1}], \"eval\": {}, \"widths\": {\"a\": []}}"};
    (void)state;
    for (size_t i = 0; i < sizeof reports / sizeof *reports; i++) {
        seam_error err = {0};
        write_report(reports[i]);
        assert_int_equal(render(&err), SEAM_OK);
        read_page();
        assert_non_null(strstr(page, "</html>"));
        assert_null(strstr(page, "nan"));
        assert_null(strstr(page, "inf"));
    }
}

static void test_report_html_write__bad_report__named_error(void **state) {
    static const struct {
        const char *text, *named;
    } cases[] = {{"[1]", "object"},
                 {"{\"steps\": 3}", "steps"},
                 {"{\"steps\": [{}, 4]}", "steps[1]"},
                 {"{\n\"steps\": [\n", "report.json:"}};
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        seam_error err = {0};
        write_report(cases[i].text);
        assert_int_equal(render(&err), SEAM_E_FORMAT);
        assert_non_null(strstr(err.text, cases[i].named));
    }
}

static void test_report_html_write__no_such_file__io_error(void **state) {
    (void)state;
    seam_error err = {0};
    assert_int_equal(seam_report_html_write("/tmp/x.html", "/nonexistent/r.json", &err), SEAM_E_IO);
    assert_non_null(strstr(err.text, "/nonexistent/r.json"));
    write_report(full_report);
    char from[128];
    snprintf(from, sizeof from, "%s/report.json", folder);
    assert_int_equal(seam_report_html_write("/nonexistent/r.html", from, &err), SEAM_E_IO);
    assert_non_null(strstr(err.text, "/nonexistent/r.html"));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_report_html_write__full_report__shows_its_figures),
        cmocka_unit_test(test_report_html_write__too_many_groups__not_shown),
        cmocka_unit_test(test_report_html_write__any_report__fetches_nothing),
        cmocka_unit_test(test_report_html_write__missing_parts__left_out),
        cmocka_unit_test(test_report_html_write__bad_report__named_error),
        cmocka_unit_test(test_report_html_write__no_such_file__io_error),
    };
    return cmocka_run_group_tests(tests, folder_create, folder_delete);
}
