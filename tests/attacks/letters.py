"""The attacks by the letter of the promise that they try, and the tests that carry each out.

A: answers, B: who holds what, C: `hidden`, D: one client against the others, E: keys, transport and files. Each case of
a test is one try. An attack succeeds where a test of it fails. `CONTROLS` are honest cases: an attack that is refused
would mean nothing where the honest case is refused too.
"""

from pathlib import Path

ATTACKS: dict[str, dict[str, tuple[str, ...]]] = {
    "A": {
        "two key sets under one token": (
            "test_each_department_gets_its_own_labels_after_the_other_registered",
            "test_an_answer_under_keys_of_another_department_is_refused",
        ),
        "a key set that is not registered": ("test_an_unregistered_key_set_is_refused_by_name",),
        "random or changed numbers for an answer": (
            "test_random_answers_are_refused",
            "test_random_answers_after_an_honest_first_one_end_the_run",
            "test_an_honest_answer_with_a_changed_number_is_refused",
            "test_an_answer_that_cannot_be_parsed_is_an_error",
        ),
        "a signed answer to another request or client": (
            "test_an_answer_replayed_for_another_request_is_refused",
            "test_an_answer_to_another_client_is_refused",
            "test_the_answer_to_a_full_request_is_refused_for_one_with_rows_to_spare",
            "test_the_answer_to_a_full_request_is_refused_for_another_full_request",
        ),
        "a client's clock that is wrong or jumps": (
            "test_a_client_whose_clock_is_wrong_gets_its_answers",
            "test_a_client_whose_clock_jumps_in_a_run_goes_on",
        ),
        "results before an untrustworthy answer, on the page": (
            "test_the_page_withdraws_results_before_an_untrustworthy_answer",
        ),
        "a bundle replaced under a running server": (
            "test_no_answer_of_a_head_that_the_server_did_not_start_with_leaves",
        ),
        "a server that fails midway": ("test_a_server_that_fails_midway_leaves_rows_with_its_reason",),
    },
    "B": {
        "an offer other than the published one": ("test_an_offer_other_than_the_published_one_is_refused",),
        "a model of another publisher, or of none": (
            "test_a_model_of_another_publisher_is_refused",
            "test_an_unpublished_model_is_not_served",
            "test_a_part_by_another_publishing_key_is_refused",
            "test_commands_refuse_a_part_by_another_publishing_key",
            "test_publishing_with_another_key_into_the_same_folder_is_said",
        ),
        "parts and key files of different publications": (
            "test_parts_of_different_publications_are_refused_before_anything_is_sent",
            "test_a_key_file_of_another_publication_is_refused_before_anything_is_sent",
        ),
        "names that nobody can read or tell apart": (
            "test_a_name_that_nobody_can_read_is_refused",
            "test_two_classes_of_one_name_are_refused",
        ),
        "scores that leave the client": ("test_no_result_holds_a_score",),
    },
    "C": {
        "a chosen public part": (
            "test_public_part_written_out_is_refused",
            "test_public_part_with_a_trapdoor_is_refused",
            "test_first_polynomial_chosen_by_the_client_gives_no_weight",
            "test_seed_of_the_request_gives_no_weight",
        ),
        "division of an answer": (
            "test_division_of_an_answer_without_noise_gives_the_weights",
            "test_second_polynomials_of_one_request_are_fresh_and_uniform",
        ),
        "crafted evaluation keys": (
            "test_crafted_keys_are_refused",
            "test_missing_part_is_refused",
            "test_secret_key_is_refused_by_name",
        ),
        "features at two heights": (
            "test_scores_with_all_their_bits_give_two_weights_a_query",
            "test_scores_as_wide_as_their_precision_give_one_weight_a_query",
            "test_bound_counts_bits_and_not_queries",
        ),
        "partial sums and bits below the precision": (
            "test_every_number_that_leaves_follows_from_the_scores",
            "test_numbers_of_one_request_differ_by_fresh_noise_as_wide_as_stated",
            "test_number_reveals_no_more_bits_than_its_range_has_steps_of_the_precision",
            "test_plan_whose_answers_could_reveal_the_secret_of_the_server_is_not_made",
        ),
    },
    "D": {
        "a length beside chunks": (
            "test_a_length_beside_chunks_is_refused_and_the_connection_closed",
            "test_chunks_alone_are_refused",
            "test_lengths_that_are_not_one_number_are_refused",
        ),
        "heads without end": (
            "test_a_head_of_many_headers_is_refused_unparsed",
            "test_a_later_head_of_many_headers_on_one_connection_is_refused_too",
            "test_an_endless_line_is_refused_at_the_bound",
            "test_trailers_behind_chunks_are_not_parsed",
            "test_heads_that_come_a_byte_at_a_time_are_ended_and_stop_nobody",
        ),
        "a limit asked of two servers": (
            "test_a_limit_of_images_is_one_for_both",
            "test_a_limit_of_requests_is_one_for_both",
            "test_a_limit_of_registrations_is_one_for_both",
            "test_a_storage_quota_is_one_for_both",
            "test_a_key_set_registered_at_both_at_once_is_one_of_the_two",
        ),
        "a clock that jumps over midnight": ("test_a_day_that_comes_twice_has_one_limit",),
        "keys of a wrong shape": (
            "test_keys_of_a_wrong_shape_are_refused_before_a_worker_reads_them",
            "test_a_registration_larger_than_the_keys_of_the_plan_is_refused_before_its_body",
        ),
        "keys that inflate": (
            "test_keys_that_inflate_beyond_the_size_in_the_plan_are_refused_unopened",
            "test_compression_bomb_is_refused_before_it_is_inflated",
            "test_frame_with_wrong_stated_size_is_refused",
        ),
        "many key sets in turn": ("test_many_key_sets_of_one_client_leave_those_of_others_in_memory",),
        "keys that crash a worker": ("test_a_key_set_that_crashed_a_worker_is_refused_afterwards",),
        "parts that the plan does not need": (
            "test_a_part_that_the_plan_does_not_need_is_refused",
            "test_a_registration_without_a_needed_part_is_refused",
        ),
        "idle and slow bodies": (
            "test_idle_announcements_block_no_other_client",
            "test_a_slow_body_is_ended",
            "test_bodies_of_one_client_leave_room_for_those_of_others",
        ),
        "a spool over the quota": (
            "test_many_bodies_at_once_do_not_exceed_the_quota_on_disk",
            "test_empty_objects_without_end_are_refused_by_their_number",
            "test_spooled_requests_of_one_client_take_a_bounded_share_of_the_disk",
            "test_a_registration_beyond_the_quota_is_refused_before_its_body",
        ),
        "refunds after midnight": ("test_requests_that_fail_after_midnight_gain_no_queries",),
        "registrations in a loop": (
            "test_registrations_beyond_the_limit_are_refused_and_others_go_on",
            "test_registrations_whose_body_never_comes_are_counted_too",
        ),
        "downloads that are never read": ("test_unread_downloads_take_bounded_memory_and_stop_nobody",),
        "large objects that end at once": ("test_large_objects_that_end_at_once_are_written_a_few_at_a_time",),
        "malformed messages without end": (
            "test_a_flood_of_malformed_messages_is_answered_at_the_allowed_rate_and_the_honest_client_is_served",
        ),
        "a flood beyond a client's share": ("test_requests_beyond_a_share_are_refused_unread_and_others_are_served",),
        "strangers without end": ("test_strangers_are_answered_at_the_allowed_rate_and_the_honest_client_is_served",),
        "turns taken from others": (
            "test_a_flood_with_a_token_that_has_ended_is_answered_at_the_rate_of_strangers",
            "test_a_flood_under_invented_addresses_is_answered_at_the_rate_of_one",
            "test_many_addresses_have_few_turns_and_an_ipv6_network_one",
            "test_a_wish_for_another_protocol_is_answered_over_http_and_writes_one_line",
            "test_a_long_request_line_takes_a_short_line_of_the_log",
        ),
        "a worker taken over": (
            "test_worker_environment_holds_no_server_secret",
            "test_workers_are_confined",
            "test_missing_system_lock_gives_clear_error",
        ),
    },
    "E": {
        "another signing key": (
            "test_a_server_with_another_signing_key_is_refused_with_both_named",
            "test_an_answer_of_a_server_with_a_signing_key_of_its_own_is_refused",
        ),
        "an envelope at two servers, or under another clock": (
            "test_one_envelope_at_both_servers_at_once_is_accepted_once",
            "test_a_nonce_in_another_envelope_at_the_other_server_is_refused",
            "test_no_envelope_is_accepted_twice_over_a_restart_with_the_clock_ahead",
            "test_an_envelope_that_is_dated_by_a_wrong_clock_is_refused",
            "test_a_client_whose_clock_is_ahead_deletes_no_key_set_early",
        ),
        "a token that ends while its request waits or runs": (
            "test_a_question_whose_token_ends_while_its_body_comes_is_refused_and_not_counted",
            "test_keys_whose_token_ends_while_they_come_are_not_stored",
            "test_an_object_whose_token_ends_while_it_comes_is_not_stored",
            "test_an_upload_ends_soon_after_its_token",
            "test_a_download_ends_soon_after_its_token",
            "test_no_answer_leaves_to_a_token_that_ended_while_its_question_waited_or_ran",
        ),
        "hostile texts in results": (
            "test_no_text_becomes_a_formula",
            "test_a_text_of_any_length_leaves_the_history_readable",
            "test_a_message_of_a_server_is_short_and_has_no_control_character",
        ),
        "results of the vault for others to read": (
            "test_results_are_their_owners_alone_and_names_do_not_move_the_cursor",
        ),
        "two programs with one key file": ("test_two_pages_with_one_key_file_leave_the_history_readable",),
        "a key file changed while it was held open": (
            "test_keys_held_open_do_not_undo_who_may_open_the_file",
            "test_keys_held_open_do_not_undo_a_rotation",
            "test_a_key_file_behind_a_link_is_the_one_that_changes",
        ),
        "plain http": (
            "test_plain_http_to_another_host_is_refused_before_anything_is_sent",
            "test_spellings_that_are_no_loopback_address_are_refused",
        ),
        "passwords in addresses": ("test_an_address_with_a_password_or_a_query_is_refused_and_not_shown",),
        "answers that are large, packed or slow": (
            "test_a_compressed_answer_is_refused_unopened",
            "test_an_answer_above_the_limit_of_its_route_is_refused",
            "test_a_range_of_an_object_is_no_longer_than_was_asked_for",
            "test_a_slow_answer_ends_in_a_timeout",
        ),
        "another host, and announcements without end": (
            "test_a_server_that_names_another_host_is_refused_and_the_token_stays",
            "test_an_answer_that_never_comes_is_given_up",
        ),
        "numbers and listings of a hostile server": (
            "test_a_clock_that_is_no_time_is_refused",
            "test_a_signing_key_that_is_none_is_not_pinned",
            "test_a_registration_with_an_impossible_number_is_refused",
            "test_a_time_to_wait_that_is_no_number_is_ignored",
            "test_an_answer_whose_time_is_no_number_of_microseconds_is_refused",
            "test_a_listing_that_might_never_end_is_refused",
        ),
        "control characters": (
            "test_control_characters_in_a_refusal_do_not_move_the_cursor",
            "test_an_offer_whose_ids_move_the_cursor_is_refused",
            "test_a_version_that_moves_the_cursor_is_refused",
            "test_a_listing_whose_ids_are_paths_or_escapes_is_refused",
            "test_control_characters_are_shown_as_text",
        ),
        "hostile images and names": (
            "test_a_deflated_dicom_that_grows_beyond_its_bound_is_refused",
            "test_inflated_size_is_limited_before_the_data_are_kept",
            "test_an_image_that_needs_more_memory_than_its_decoder_has_is_refused",
            "test_a_decoder_that_hangs_or_crashes_loses_only_one_file",
            "test_a_decoder_holds_no_passphrase_and_no_token",
            "test_files_that_are_no_images_are_refused_each_with_its_reason",
            "test_names_that_are_no_utf_8_are_read_or_refused",
        ),
        "a forged audit log": (
            "test_a_rebuilt_chain_is_detected_with_the_first_key",
            "test_the_key_on_the_server_authenticates_no_older_line",
            "test_a_log_without_its_key_is_not_accepted_as_authentic",
        ),
        "a tampered backup": (
            "test_a_tampered_backup_is_refused",
            "test_a_tampered_backup_that_is_restored_without_a_key_admits_nobody",
        ),
        "malformed requests": (
            "test_a_header_of_a_wrong_form_is_a_documented_refusal",
            "test_a_client_that_hangs_up_is_no_defect",
        ),
    },
}

CONTROLS = frozenset(
    {
        "test_honest_keys_have_exactly_the_stated_sizes",
        "test_uniform_residues_in_the_right_shape_are_keys_like_any_others",
        "test_an_untouched_log_verifies_with_its_first_key",
        "test_a_crash_between_line_and_key_lets_the_log_continue",
        "test_names_in_any_script_stay_as_they_are",
        "test_class_names_in_any_script_are_read",
        "test_loopback_and_https_need_no_option",
        "test_the_program_that_changed_the_file_last_changes_it_again",
        "test_full_requests_are_believed_where_every_answer_is_its_own",
        "test_a_head_within_the_bounds_is_answered",
        "test_a_token_that_stays_valid_is_answered_however_slow_its_body",
        "test_answers_of_both_servers_carry_one_signature",
        "test_parts_of_one_publication_belong_together",
        "test_parts_of_two_publications_of_one_head_and_its_plans_give_its_labels",
        "test_every_attack_has_a_letter_and_every_letter_its_tests",
    }
)


def find_attack(test: str) -> tuple[str, str] | None:
    """The letter and name of the attack that a test function belongs to; None for an honest case.

    Raises:
        KeyError: the test has no letter.
    """
    for letter, attacks in ATTACKS.items():
        for name, tests in attacks.items():
            if test in tests:
                return letter, name
    if test in CONTROLS:
        return None
    raise KeyError(f"{test} is neither an attack with a letter nor an honest case; add it to {Path(__file__).name}.")


class Counts:
    """A pytest plugin that counts the tries and the successes of each attack."""

    def __init__(self) -> None:
        self.rows = {
            (letter, name): {"tried": 0, "succeeded": 0} for letter, attacks in ATTACKS.items() for name in attacks
        }
        self.honest_refused: list[str] = []

    def pytest_runtest_logreport(self, report: object) -> None:
        """Count a test's outcome: an error before the test tries nothing, and is shown as a success to be looked at."""
        outcome, when, node = (getattr(report, name) for name in ("outcome", "when", "nodeid"))
        if outcome == "skipped" or (when != "call" and outcome != "failed"):
            return
        attack = find_attack(str(node).partition("[")[0].rpartition("::")[2])
        if attack is None:
            self.honest_refused += [str(node)] if outcome == "failed" else []
            return
        self.rows[attack]["tried"] += 1
        self.rows[attack]["succeeded"] += outcome == "failed"
